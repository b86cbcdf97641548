# The filter of a dump on its way to the client; its own findings go to `status`. The server's own tables
# stay out: they would replace the accounts and privileges by which this test asks its questions. Keys are
# checked row by row, whatever the dump's head says: a table that is taken as a whole does not say why it is
# refused. Rows come first, for nearly all lines are rows.
/^\(/ { if (!own) print; next }
/^-- Current Database: `/ { own = ($0 ~ /`(mysql|sys|information_schema|performance_schema)`/); if (own) skipped++ }
/^-- Dump completed/ { trailer = 1 }
/^(LOAD DATA|INSTALL (SONAME|PLUGIN)|SELECT .* INTO (OUTFILE|DUMPFILE)|CREATE (AGGREGATE )?FUNCTION [^(]* SONAME )/ { hostile++ }
/^(\\!|system |source |\\\. |tee |\\T )/ { hostile++; next }
own { next }
/^-- Dumping data for table `/ { print; print "SET unique_checks=1;"; next }
{ print }
END { printf "trailer %d\nhostile %d\nskipped %d\n", trailer, hostile, skipped > status }

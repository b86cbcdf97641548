# The filter of a dump on its way to the client; its own findings go to `status`. The server's own tables
# stay out: they would replace the accounts and privileges by which this test asks its questions.
/^-- Current Database: `/ { own = ($0 ~ /`(mysql|sys|information_schema|performance_schema)`/); if (own) skipped++ }
/^-- Dump completed/ { trailer = 1 }
/^(LOAD DATA|INSTALL (SONAME|PLUGIN)|SELECT .* INTO (OUTFILE|DUMPFILE)|CREATE (AGGREGATE )?FUNCTION [^(]* SONAME )/ { hostile++ }
/^(\\!|system |source |\\\. |tee |\\T )/ { hostile++; next }
!own { print }
END { printf "trailer %d\nhostile %d\nskipped %d\n", trailer, hostile, skipped > status }

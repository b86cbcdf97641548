# The filter of a dump on its way to the client; its own findings go to `status`. The server's own tables
# stay out: they would replace the accounts and privileges by which this test asks its questions. What
# stands between LOCK TABLES and UNLOCK TABLES becomes one transaction: into an empty table, InnoDB then
# sorts rows and builds each index once. With `bulk=0` it looks at each row as it comes, which it does not
# do for a dump's own first INSERT either. Rows come first, for nearly all lines are rows.
/^\(/ { if (!own) print; next }
/^-- Current Database: `/ { own = ($0 ~ /`(mysql|sys|information_schema|performance_schema)`/); if (own) skipped++ }
/^-- Dump completed/ { trailer = 1 }
/^(LOAD DATA|INSTALL (SONAME|PLUGIN)|SELECT .* INTO (OUTFILE|DUMPFILE)|CREATE (AGGREGATE )?FUNCTION [^(]* SONAME )/ { hostile++ }
/^(\\!|system |source |\\\. |tee |\\T )/ { hostile++; next }
own { next }
bulk && /^LOCK TABLES `.*` WRITE;$/ { print; print "SET autocommit=0;"; next }
bulk && /^UNLOCK TABLES;$/ { print "COMMIT;"; print; print "SET autocommit=1;"; next }
!bulk && /^-- Dumping data for table `/ { print; print "SET unique_checks=1;"; next }
{ print }
END { printf "trailer %d\nhostile %d\nskipped %d\n", trailer, hostile, skipped > status }

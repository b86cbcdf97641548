# Sums up what psql or pg_restore say themselves. Errors of the server are counted from its log.
function add(key) { count[key]++ }
/: (ERROR|FATAL|PANIC):  [0-9A-Z][0-9A-Z][0-9A-Z][0-9A-Z][0-9A-Z]$/ { refused++; next }
/: (WARNING|NOTICE|INFO|LOG|DEBUG):  / { next }
/^psql:.*: error: backslash commands are restricted/ { add("ERROR client restricted"); next }
/^psql:.*: error: invalid command \\(un)?restrict/ { next }
/^psql:.*: error: invalid command / { add("ERROR client invalid_command"); next }
/^psql:.*: (error: )?(connection to server was lost|server closed the connection)/ \
  { add("ERROR client connection_lost"); next }
/^psql: error: connection to server / { add("ERROR client connection_lost"); next }
/^psql(:.*)?: error: (out of memory|could not)/ { add("ERROR client other"); next }
/^psql(:.*)?: (error|fatal|warning): / { add("ERROR client other"); next }
!/^pg_restore: / { next }
/^pg_restore: (while |from TOC entry|in TOC entry|creating |connecting |processing |executing )/ { next }
/^pg_restore: (warning: )?errors ignored on restore: / { next }
/could not execute query: (ERROR|FATAL|PANIC): / { refused++; next }
/COPY failed for table .*: (ERROR|FATAL|PANIC): / { refused++; next }
/error returned by PQputCopy(Data|End): / { next }
/(server closed the connection|no connection to the server|connection to server .* failed|terminating connection)/ \
  { add("ERROR client connection_lost"); next }
/a worker process died unexpectedly|parallel restore failed|could not read from worker/ \
  { add("ERROR client worker_died"); next }
/unsupported version \([0-9.]+\) in file header/ { add("ERROR client archive_newer"); next }
/did not find magic string in file header|does not appear to be a valid archive|input file appears to be a text/ \
  { add("ERROR client not_an_archive"); next }
/(end of file|unexpected end|file is too short|incomplete tar header|premature end)/ \
  { add("ERROR client truncated"); next }
/could not close data file/ { add("ERROR client truncated"); next }
/actual file length \([^)]*\) does not match/ { add("ERROR client truncated"); next }
/could not find header for file .* in tar archive/ { add("ERROR client truncated"); next }
/could not open (input|TOC|large object TOC|TOC|)? ?file .*No such file/ { add("ERROR client file_missing"); next }
/could not open .*No such file/ { add("ERROR client file_missing"); next }
/could not (uncompress|decompress|initialize compression|inflate)|[Dd]ecompress|zlib|LZ4|ZSTD/ \
  { add("ERROR client damaged"); next }
/corrupt tar header|possibly corrupt|(unexpected|unrecognized) (section code|data block type|entry type|data offset)/ \
  { add("ERROR client damaged"); next }
/could not find block ID|found unexpected block ID|entry ID .* out of range|invalid (dumpId|line|TOC)|bad dumpId/ \
  { add("ERROR client damaged"); next }
/restoring tables WITH OIDS is not supported|could not read from input file|corrupt/ \
  { add("ERROR client damaged"); next }
/could not write/ { add("ERROR client write_failed"); next }
/^pg_restore: (error|fatal): out of memory/ { add("ERROR client out_of_memory"); next }
/^pg_restore: warning: / { add("WARNING client other"); next }
/^pg_restore: error: / { add("ERROR client other"); next }
END { for (key in count) print key, count[key]; printf "refused %d\n", refused }

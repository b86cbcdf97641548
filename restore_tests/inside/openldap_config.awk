# A directory's own configuration, made fit for this place: databases in scratch, no certificates, no peers.
/^ / { if (!dropping) print; next }
{ dropping = 0 }
/^olcDbDirectory:/ { printf "olcDbDirectory: %s/%d\n", place, ++databases; dropping = 1; next }
# What may grow to more than there is room for: slapadd makes the file as long at once.
/^olcDbMaxSize:/ { if ($2 + 0 > largest + 0) printf "olcDbMaxSize: %s\n", largest; else print; dropping = 1; next }
/^(olcTLS|olcPidFile|olcArgsFile|olcSyncrepl|olcMirrorMode|olcMultiProvider|olcUpdateRef|olcServerID|olcLogFile|olcSaslSecProps|olcSecurity|olcRequires|olcDisallows)[A-Za-z]*:/ \
  { dropping = 1; next }
{ print }

# A directory's own configuration, made fit for this place: databases in scratch, no certificates, no peers.
/^ / { if (!dropping) print; next }
{ dropping = 0 }
/^olcDbDirectory:/ { printf "olcDbDirectory: %s/%d\n", place, ++databases; dropping = 1; next }
/^(olcTLS|olcPidFile|olcArgsFile|olcSyncrepl|olcMirrorMode|olcMultiProvider|olcUpdateRef|olcServerID|olcLogFile|olcSaslSecProps|olcSecurity|olcRequires|olcDisallows)[A-Za-z]*:/ \
  { dropping = 1; next }
{ print }

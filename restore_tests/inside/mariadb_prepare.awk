# Reads what mariadb-backup says while it prepares; prints words of a closed list, and where the log ended.
/No space left|Disk is full|Disk quota|Error number 28|OS error: 28|Errcode: 28|Got error 28 |File too large/ { word["no_disk"] = 1; next }
/Cannot allocate memory|[Oo]ut of memory|Got error 12 |std::bad_alloc/ { word["no_memory"] = 1; next }
/Upgrade after a crash is not supported|Unsupported redo log format|Invalid redo log header/ { word["version"] = 1; next }
/redo log encryption key|Encryption key is not found|[Ee]ncrypted but|Reading log encryption info failed/ { word["key"] = 1; next }
/seems not to be proper for the target/ { word["unfit"] = 1; next }
/ib_logfile0 was not found/ { word["no_log"] = 1; next }
/ib_logfile[0-9]* is too small|Log file .* size .* is not a multiple/ { word["cut_log"] = 1; next }
/Missing FILE_CHECKPOINT|Missing MLOG_CHECKPOINT|Log scan aborted|No valid checkpoint|Invalid log|log block .* (corrupt|checksum)/ { word["bad_log"] = 1; next }
/InnoDB files do not exist|failed to apply .*\.delta|bytes should have been read .* but got only/ { word["cut_file"] = 1; next }
/cannot open .*_checkpoints|failed to read metadata/ { word["unfinished"] = 1; next }
/Aria engine: Redo phase failed|Aria recovery failed|\[ERROR\].*([Cc]orrupt|checksum mismatch)|Database page corruption/ { word["corrupt"] = 1; next }
/End of log at LSN=[0-9]+/ { split($0, part, "LSN="); ended = part[2] + 0; next }
/completed OK!/ { word["done"] = 1 }
END {
  for (one in word) print "word " one
  if (ended) printf "ended %.0f\n", ended
}

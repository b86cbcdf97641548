# What gbak, gfix and nbackup say, as tokens of a closed alphabet: a line of it may quote a value.
/No space left|File too large|Disk quota/ { said["no_disk"]++; next }
/cannot start .* thread|can't start .* thread|unable to allocate memory|out of memory|Cannot allocate memory|virtual memory exhausted/ { said["no_memory"]++; next }
/Expected backup version|unsupported on-disk structure|incompatible with the current version|ODS versions/ { said["version"]++; next }
/(CHARACTER SET|COLLATION|character set|collation|plugin|Plugin|module) .*(is not|not installed|not defined|not found|failed to load)/ { said["not_installed"]++; next }
/Backup incomplete|File size is less than expected/ { said["truncated"]++; next }
/adjusting an invalid decompression|do not recognize|expected .*(attribute|record|length)|Expected (XDR|backup desc|table|.* attribute)|string truncated|Cannot find column|unexpectedly deleted|DB appears damaged|not a valid database|consistency check|wrong page type|[Bb]ad checksum|database file appears corrupt/ { said["damaged"]++; next }
/parameter mismatch for (procedure|function)|violation of|validation error for|value exceeds the range|duplicate value|cannot commit index|Foreign key reference target|Problematic key/ { said["refused"]++; next }
/Number of .* errors/ { n = $NF; said["errors"] += (n ~ /^[0-9]+$/ ? n : 1); next }
/Number of .* warnings/ { n = $NF; said["warnings"] += (n ~ /^[0-9]+$/ ? n : 1); next }
/ERROR|error|failed/ { said["other"]++ }
END { for (token in said) print token, said[token] }

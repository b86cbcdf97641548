# What slapadd, slapcat and slapschema say, as tokens of a closed alphabet: a line of it may quote an entry.
/attribute type undefined|UNKNOWN attributeDescription|AttributeDescription contains inappropriate|objectClass .* (unknown|undefined)|unrecognized objectClass|no such objectClass|value #[0-9]+ invalid per syntax.*objectClass/ { said["schema_missing"]++; next }
/No space left|MDB_MAP_FULL|File too large/ { said["no_disk"]++; next }
/Cannot allocate memory|out of memory/ { said["no_memory"]++; next }
/lt_dlopen|module .* not found|failed to load/ { said["module_missing"]++; next }
/MDB_(CORRUPTED|PAGE_NOTFOUND|INVALID|PANIC)/ { said["damaged"]++; next }
/could not parse entry|str2entry|invalid (DN|per syntax)|requires attribute|no structuralObjectClass|missing|not allowed|violat|constraint|wrong number of|ldif_read|ldif_parse|could not find parent|entries missing!|not configured to hold|parent does not exist|txn_(aborted|commit)|Invalid DN/ { said["refused"]++; next }
/slapadd: |slapcat: |slapd: |ERROR|error|failed/ { said["other"]++ }
END { for (token in said) print token, said[token] }

# Sums up what a server says while it recovers, one word of a closed list per kind of line. Its lines begin
# with `BG|SQLSTATE|APPLICATION|`; what it says before it has read its settings has no such beginning.
function said(word) { count[word]++ }
/recovery stopping (before|after) (commit|abort)/ { said("stopped"); next }
/archive recovery complete/ { said("complete"); next }
/redo done at [0-9A-F]+\/[0-9A-F]+/ {
  match($0, /redo done at [0-9A-F]+\/[0-9A-F]+/); place = substr($0, RSTART + 13, RLENGTH - 13); next
}
/recovery ended before configured recovery target/ { said("not_reached"); next }
/WAL ends before (end of online backup|consistent recovery point)/ { said("log_ends"); next }
/incorrect resource manager data checksum|invalid resource manager ID|incorrect prev-link/ { said("log_damaged"); next }
/could not (find|locate) (redo location|a valid checkpoint|required checkpoint|checkpoint)/ { said("log_ends"); next }
/could not find redo location|invalid (primary )?checkpoint (record|link)/ { said("log_ends"); next }
/requested timeline [0-9]+ (is not a child|does not contain)/ { said("timeline"); next }
/recovery target timeline [0-9]+ does not exist|unexpected timeline ID|syntax error in history file/ { said("timeline"); next }
/(FATAL|PANIC):.*incremental backup/ { said("incremental"); next }
/(FATAL|PANIC|ERROR):.*(No space left|File too large|disk full)/ { said("disk"); next }
/(FATAL|PANIC|ERROR):.*(out of memory|shared memory|Cannot allocate)/ { said("memory"); next }
/FATAL:.*(locale|collation|encoding)/ { said("locale"); next }
/FATAL:.*(could not access file|could not load library|could not find .* in file)/ { said("library"); next }
/FATAL:.*(directory ".*" does not exist|could not create directory)/ { said("place"); next }
/(PANIC|FATAL|WARNING):.*(invalid page|references to invalid pages|page verification failed)/ { said("damaged"); next }
/(FATAL|PANIC):.*(control file|pg_control|checksum|could not (open|read|access|stat)|invalid|not a valid|is missing|does not exist)/ {
  said("damaged"); next
}
/(FATAL|PANIC):  / { said("other"); next }
END {
  for (word in count) print word, count[word]
  if (place != "") print "redo", place
}

# Checks every page of InnoDB's files with innochecksum. Prints how many files there are, and how many are
# damaged, shorter than their own first page says, or could not be looked at.
# Arguments: innochecksum, the data directory, the files of the system tablespace in order.
program=$1 data=$2; shift 2
cd "$data" || exit 91

cat >/tmp/check <<'END'
program=$1 system=$2; shift 2
for file; do
  # FSP_SIZE: pages; FSP_SPACE_FLAGS: of what size, in one of two ways of writing it
  set -- $(od -An -tu4 --endian=big -j46 -N12 -- "$file")
  if [ $# -lt 3 ]; then echo short; continue; fi
  packed=$(($3 >> 1 & 15)) whole=$(($3 >> 6 & 15))
  if [ $(($3 & 16)) -ne 0 ]; then page=$((512 << ($3 & 15)))
  elif [ "$packed" -ne 0 ]; then page=$((512 << packed))
  elif [ "$whole" -ne 0 ]; then page=$((512 << whole))
  else page=16384; fi
  size=$(stat -c %s -- "$file") || { echo unknown; continue; }
  if [ "$system" -gt 0 ]; then size=$system; fi
  if [ "$size" -lt $(($1 * page)) ]; then echo short; continue; fi
  status=0
  if [ "$system" -gt 0 ]; then
    # two extents hold pages of other files, on their way to their own places
    extent=$((1048576 / page)); if [ "$extent" -lt 64 ]; then extent=64; fi
    "$program" --end-page=$((extent - 1)) "$file" >/dev/null 2>&1 &&
      "$program" --start-page=$((3 * extent)) "$file" >/dev/null 2>&1 || status=$?
  else
    "$program" "$file" >/dev/null 2>&1 || status=$?
  fi
  case $status in
    0) echo sound ;;
    134) echo damaged ;; # it gave up over what it read
    126|127|12[89]|13[0-9]|1[4-9][0-9]|2[0-9][0-9]) echo unknown ;;
    *) echo damaged ;;
  esac
done
END

total=0
for file; do
  # of all but the first, innochecksum can read none
  if [ -f "$file" ]; then total=$((total + $(stat -c %s -- "$file"))); fi
done
{
  if [ -f "$1" ]; then sh /tmp/check "$program" "$total" "$1"; else echo short; fi
  find . -type f \( -name '*.ibd' -o -name 'undo[0-9][0-9][0-9]' \) -print0 |
    xargs -0 -r -n 32 -P "$(nproc)" sh /tmp/check "$program" 0 || echo unknown
} | awk '
  { files++; count[$1]++ }
  END { printf "files %d\ndamaged %d\nshort %d\nunknown %d\n", files, count["damaged"], count["short"], count["unknown"] }'

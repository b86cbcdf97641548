# Lays what mariadb-backup wrote out below /scratch/backups, a number each. Prints words of a closed list.
# Arguments: where the artifact lies, then pairs: path of a stream in it, its compression.
root=$1; shift
mkdir -p /scratch/backups /scratch/tmp || exit 91
chmod -R u+rwX,go-rwx "$root" || exit 91

unpack() {
  case "$2" in gzip|xz|zstd) program=$2 ;; *) program=cat ;; esac
  for needed in "$program" mbstream; do
    command -v "$needed" >/dev/null || { echo "program $needed"; exit 0; }
  done
  into="/scratch/tmp/$3"
  mkdir -p "$into" || exit 91
  { opened "$2" "$1" 2>/tmp/opening; echo $? >/tmp/opened; } | mbstream -x -C "$into" >/tmp/unpacking 2>&1
  status=$?
  grep -qiE 'No space left|quota|File too large|Errcode: 28' /tmp/opening /tmp/unpacking && exit 91
  if [ "$(cat /tmp/opened)" = 0 ] && [ "$status" = 0 ]; then rm -f -- "$1"; return; fi
  # 128 and more: somebody ended it, and that is no fault of the stream's
  [ "$status" -lt 126 ] && [ "$(cat /tmp/opened)" -lt 126 ] || [ "$(cat /tmp/opened)" = 141 ] || exit 92
  if grep -qiE 'checksum|wrong chunk magic|crc error|corrupt' /tmp/opening /tmp/unpacking
  then echo "defect corrupt"; else echo "defect truncated"; fi
  exit 0
}

number=0
while [ $# -ge 2 ]; do
  case "$1" in .) file=$root ;; *) file=$root/$1 ;; esac
  unpack "$file" "$2" "$number"
  number=$((number + 1))
  shift 2
done
if [ "$number" -gt 0 ]; then root=/scratch/tmp; chmod -R u+rwX,go-rwx "$root" || exit 91; fi

# A link leads elsewhere, and an .isl file is one.
find "$root" ! -type f ! -type d -delete || exit 91
find "$root" -type f -name '*.isl' -delete || exit 91
find "$root" -depth -type d -exec sh -c '
  for place; do
    for name in xtrabackup_checkpoints mariadb_backup_checkpoints xtrabackup_info mariadb_backup_info \
      ibdata1 ibdata1.delta ib_logfile0; do
      [ -f "$place/$name" ] || continue
      mv -T -- "$place" "/scratch/backups/$(ls /scratch/backups | wc -l)" || echo full
      break
    done
  done' sh {} + >/tmp/moved
[ -s /tmp/moved ] && exit 91
echo "backups $(ls /scratch/backups | wc -l)"

# Makes a data directory below /scratch of what was fetched: directory or tars. Prints words of a closed list.
# Arguments: where the artifact lies, the data directory or base.tar in it, "directory" or "tar".
root=$1 name=$2 form=$3
data=/scratch/data spaces=/scratch/tablespaces
mkdir -p "$spaces" || exit 91
chmod -R u+rwX,go-rwx "$root" || exit 91

opened() {
  case "$1" in
    *.gz) gzip -dc -- "$1" ;;
    *.xz) xz -dc -- "$1" ;;
    *.zst) zstd -dcq --long=31 -- "$1" ;;
    *.lz4) lz4 -dcq -- "$1" ;;
    *) cat -- "$1" ;;
  esac
}

unpack() {
  mkdir -p "$2" || exit 91
  case "$1" in
    *.gz) program=gzip ;; *.xz) program=xz ;; *.zst) program=zstd ;; *.lz4) program=lz4 ;; *) program=cat ;;
  esac
  command -v "$program" >/dev/null || { echo "program $program"; exit 0; }
  : >/tmp/opened
  { opened "$1" 2>/tmp/opening; echo $? >/tmp/opened; } | tar -xf - -C "$2" --no-same-owner 2>/tmp/unpacking
  status=$?
  grep -qE 'No space left|quota|File too large' /tmp/opening /tmp/unpacking && exit 91
  # A program that was killed says nothing of what it read; SIGPIPE (141) is what the other one's end does.
  case "$(cat /tmp/opened)" in 12[6-9]|13?|14[02-9]|1[5-9]?|'') exit 92 ;; esac
  case "$status" in 12[6-9]|1[3-9]?) exit 92 ;; esac
  if [ "$(cat /tmp/opened)" = 0 ] && [ "$status" = 0 ]; then return; fi
  if grep -qiE 'unexpected end|premature end|truncated|Read error \(39\)|Unexpected EOF|incomplete' /tmp/opening /tmp/unpacking
  then echo "defect truncated"; else echo "defect corrupt"; fi
  exit 0
}

# What a link of the source's means here: the directory of the artifact whose path ends as its target does.
lookup() {
  case "$1" in
    ../../*) set -- "$beside/${1#../../}"; [ -d "$1" ] && found=$1; return ;;
  esac
  rest=${1#/}
  while [ -n "$rest" ]; do
    for top in "$root" "$beside"; do
      if [ -d "$top/$rest" ] && [ ! -L "$top/$rest" ]; then found=$top/$rest; return; fi
    done
    case "$rest" in */*) rest=${rest#*/} ;; *) return ;; esac
  done
}

if [ "$form" = directory ]; then
  case "$name" in .) from=$root beside=/nowhere ;; *) from=$root/$name beside=$(dirname "$root/$name") ;; esac
  mv -T -- "$from" "$data" || exit 91
  if [ -L "$data/pg_wal" ]; then
    found=
    lookup "$(readlink "$data/pg_wal")"
    rm "$data/pg_wal"
    if [ -n "$found" ]; then mv -T -- "$found" "$data/pg_wal"; fi
  fi
  for link in "$data"/pg_tblspc/*; do
    [ -L "$link" ] || continue
    number=${link##*/} found=
    lookup "$(readlink "$link")"
    rm "$link"
    case "$number" in *[!0-9]*) continue ;; esac
    if [ -z "$found" ] || ! mv -T -- "$found" "$spaces/$number"; then echo "defect missing_object"; continue; fi
    ln -s "$spaces/$number" "$link"
  done
else
  beside=$(dirname "$root/$name")
  unpack "$root/$name" "$data"
  chmod -R u+rwX,go-rwx "$data" || exit 91
  for file in "$beside"/*.tar "$beside"/*.tar.*; do
    [ -f "$file" ] || continue
    base=${file##*/} number=${base%%.*}
    if [ "$number" = pg_wal ]; then unpack "$file" "$data/pg_wal"; fi
    case "$number" in *[!0-9]*) continue ;; esac
    unpack "$file" "$spaces/$number"
    rm -rf "$data/pg_tblspc/$number"
    mkdir -p "$data/pg_tblspc"
    ln -s "$spaces/$number" "$data/pg_tblspc/$number"
  done
  if [ -f "$data/tablespace_map" ]; then
    while read -r number _; do
      case "$number" in ''|*[!0-9]*) continue ;; esac
      [ -d "$spaces/$number" ] || echo "defect missing_object"
    done <"$data/tablespace_map"
  fi
  if [ -f "$beside/backup_manifest" ]; then mv "$beside/backup_manifest" "$data/backup_manifest"; fi
fi
mkdir -p "$data/pg_wal"
if [ -d "$beside/wal" ] && [ ! -L "$beside/wal" ]; then
  echo "archive yes"
  find "$beside/wal" -maxdepth 1 -type f -regextype posix-extended \
    -regex '.*/([0-9A-F]{24}|[0-9A-F]{8}\.history)' -exec mv -f -t "$data/pg_wal" {} +
  if [ -f "$beside/wal/covered-until" ]; then mv "$beside/wal/covered-until" /scratch/covered-until; fi
fi
find "$data" "$spaces" ! -type f ! -type d ! -type l -delete
chmod -R u+rwX,go-rwx "$data" "$spaces" || exit 91
head -c 16 "$data/PG_VERSION" 2>/dev/null | grep -qE '^(1[0-9]|[2-9][0-9])$' && echo "version $(head -n 1 "$data/PG_VERSION")"
if [ -f "$data/backup_manifest" ]; then echo "manifest yes"; fi
if [ -f "$data/backup_label" ]; then echo "label yes"; fi
echo "placed yes"

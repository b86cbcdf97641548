# Loads a dump. A plain one is cut at its tables, and as many clients as are asked for load them at once:
# each says the dump's own SET lines and USE first. What a table needs before it (databases, sequences)
# and what needs all tables (views, routines, events) is loaded by one client alone, in the dump's order.
# Arguments: compression, file, clients, bulk (0 or 1), fewest bytes worth it, plan, filter, messages; then the client.
compression=$1 file=$2 clients=$3 bulk=$4 least=$5 plan=$6 filter=$7 messages=$8; shift 8
export LC_ALL=C  # bytes, not characters: several times as fast
said=0
ranges() {
  while read -r from length; do
    dd if="$file" bs=1M iflag=skip_bytes,count_bytes skip="$from" count="$length" status=none \
      || return
  done <"$1"
}
whole() {
  if [ -f "$1" ]; then cat /tmp/session /tmp/use && ranges "$1"; else opened "$compression" "$file"; fi
}
stream() {  # number, file of ranges or none, client
  number=$1 chosen=$2; shift 2
  { whole "$chosen" 2>/dev/null; echo "opened $?" >"/tmp/opened.$number"; } \
    | awk -v bulk="$bulk" -v status="/tmp/status.$number" "$filter" \
    | { "$@" 2>&1 >/dev/null; echo "client $?" >"/tmp/client.$number"; } \
    | awk "$messages" >"/tmp/errors.$number"
}
sections='^(-- (Table structure for table|Sequence structure for|Dumping (events|routines|packages)'
sections="$sections|Final view structure|Current Database: |Dump completed)|DELIMITER |USE \`)"
: >/tmp/session; : >/tmp/use; : >/tmp/plan
if [ "$compression" = none ] && [ "$clients" -gt 1 ]; then
  grep -abE "$sections" -- "$file" | awk -v size="$(stat -Lc %s -- "$file")" -v clients="$clients" \
    -v least="$least" "$plan" >/tmp/plan
fi
if [ -s /tmp/plan ]; then
  while read -r word first second third; do
    case "$word" in
      session) head -c "$first" -- "$file" | grep -aE '^/\*!4[0-9]{4} SET ' >/tmp/session ;;
      use) echo "$first $second" >/tmp/line; ranges /tmp/line >/tmp/use ;;
      range) echo "$second $third" >>"/tmp/ranges.$first" ;;
      run)
        for chosen in /tmp/ranges.*; do
          said=$((said + 1)); stream "$said" "$chosen" "$@" </dev/null &
        done
        wait; rm -f /tmp/ranges.* ;;
    esac
  done </tmp/plan
else
  stream 1 none "$@"
fi
cat /tmp/opened.* /tmp/status.* /tmp/client.* /tmp/errors.*

# Cuts a dump at its tables. Reads OFFSET:LINE of the lines that begin a section, of DELIMITER and of USE;
# writes what the loader does in turn: session BYTES; use OFFSET LENGTH; range CLIENT OFFSET LENGTH; run.
# Without anything worth it, it writes nothing. What a body between two DELIMITER says is no section.
BEGIN { start = 0 }
{
  at = $0; sub(/:.*/, "", at); at += 0
  line = substr($0, length($0) - length(substr($0, index($0, ":") + 1)) + 1)
  if (line ~ /^DELIMITER /) { inside = (line != "DELIMITER ;"); next }
  if (inside) next
  if (line ~ /^USE `/) { use = sprintf("use %.0f %d", at, length(line) + 1); next }
  if (!header) header = at
  if (line ~ /^-- Table structure for table `/) {
    if (own) next
    if (!parallel) { parallel = 1; count = 0; chunk[++count] = at; began = at }
    else if (at - chunk[count] >= size / (8 * clients)) chunk[++count] = at
    next
  }
  close_tables(at)
  if (line ~ /^-- Current Database: `/)
    own = (line ~ /`(mysql|sys|information_schema|performance_schema)`/)
}
END {
  close_tables(size)
  if (!loaded) exit
  if (size > start) tell(use_of_start range(1, start, size) "\nrun")
  printf "session %.0f\n%s", header, told
}
# Not by concatenation: that writes offsets from 2 GiB on with six digits in some awk.
function range(client, from, to) { return sprintf("range %d %.0f %.0f", client, from, to - from) }
function tell(text) { told = told text "\n" }
function close_tables(at,   number, other, best, client, longest) {
  if (!parallel) return
  parallel = 0
  if (at - began < least) return
  tell(use_of_start range(1, start, began) "\nrun")
  use_of_start = use ? use "\n" : ""
  chunk[count + 1] = at
  for (client = 1; client <= clients; client++) load[client] = 0
  split("", taken)
  for (number = 1; number <= count; number++) {  # the longest first, to who has least to do
    longest = 0
    for (other = 1; other <= count; other++)
      if (!(other in taken) && (!longest || chunk[other + 1] - chunk[other] > chunk[longest + 1] - chunk[longest]))
        longest = other
    taken[longest] = 1; best = 1
    for (client = 2; client <= clients; client++) if (load[client] < load[best]) best = client
    load[best] += chunk[longest + 1] - chunk[longest]
    tell((number == 1 ? use_of_start : "") range(best, chunk[longest], chunk[longest + 1]))
  }
  tell("run"); loaded = 1; start = at
}

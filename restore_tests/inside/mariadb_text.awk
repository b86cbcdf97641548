# Tells of each sampled text column whether its characters are as even as an encryption's, and whether
# they came through a wrong character set; only counts leave. Lines: number of the column, tab, text; a
# number after "d" is of a sample for the second question.
BEGIN { FS = "\t" }
{
  column = $1; text = substr($2, 1, 100)
  if (text == "") next
  if (column ~ /^d/) {
    shown[column]++
    # UTF-8 read as Latin-1 and encoded once more (U+00C3 or U+00E2, then a sign that letters do not
    # precede); the sign for what could not be read; a question mark inside a word.
    if (text ~ /\303\203\302[\200-\277]|\303\242\302[\200-\237]|\357\277\275|[a-z]\?[a-z]/) mixed[column]++
    if (text ~ /\?/) asking[column]++
    next
  }
  rows[column]++
  if (!((column, text) in seen)) { seen[column, text] = 1; distinct[column]++ }
  if (text !~ /^[0-9A-Fa-f-]*$/) other[column] = 1
  for (place = 1; place <= length(text); place++) { letter[column, substr(text, place, 1)]++; total[column]++ }
}
END {
  for (pair in letter) {
    split(pair, part, SUBSEP); share = letter[pair] / total[part[1]]
    entropy[part[1]] -= share * log(share) / log(2)
  }
  for (column in rows)
    if (rows[column] >= 50 && total[column] >= 1000 && distinct[column] >= 0.9 * rows[column] \
        && entropy[column] >= ((column in other) ? 5.5 : 3.8)) random++
  for (column in shown)
    if (shown[column] >= 20 && (mixed[column] >= 0.1 * shown[column] || asking[column] >= 0.9 * shown[column])) damaged++
  printf "random %d\ndamaged %d\n", random, damaged
}

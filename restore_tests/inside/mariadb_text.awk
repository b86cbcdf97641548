# Tells of each sampled text column whether its characters are as even as an encryption's; only counts
# leave. Lines: number of the column, tab, text.
BEGIN { FS = "\t" }
{
  column = $1; text = substr($2, 1, 100)
  if (text == "") next
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
  printf "random %d\n", random
}

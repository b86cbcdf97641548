# Counts the answers of CHECK TABLE: columns Table, Op, Msg_type, Msg_text.
BEGIN { FS = "\t" }
$3 == "error" || $3 == "Error" { errors++; next }
$3 == "warning" { warnings++; next }
$3 == "status" && $4 != "OK" { errors++; next }
$3 == "status" { sound++ }
END { printf "errors %d\nwarnings %d\nsound %d\n", errors, warnings, sound }

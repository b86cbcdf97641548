# What the two passes over a dump's statements share.

# Turn the role of an owner or grant line into a statement that makes it.
function role(name) {
  if (name !~ /^("([^"]|"")+"|[a-z_][a-z0-9_$]*)$/) return
  if (name == "public" || name == "PUBLIC" || name == "postgres" || substr(name, 1, 3) == "pg_") return
  if (name == "current_user" || name == "session_user") return
  if (!(name in made)) { made[name] = 1; printf "CREATE ROLE %s;\n", name > rolesink }
}
function roles(line,  name) {
  if (line ~ /^ALTER .* OWNER TO .*;$/) {
    name = line; sub(/^.* OWNER TO /, "", name); sub(/;$/, "", name); role(name)
  } else if (line ~ /^(GRANT|REVOKE) .* (TO|FROM) .*;$/) {
    name = line; sub(/^.* (TO|FROM) /, "", name)
    sub(/( WITH GRANT OPTION)?( GRANTED BY .*)?;$/, "", name); role(name)
  } else if (line ~ /^SET SESSION AUTHORIZATION .*;$/) {
    name = line; sub(/^SET SESSION AUTHORIZATION /, "", name); sub(/;$/, "", name); role(name)
  } else if (line ~ /^CREATE POLICY .* TO /) {
    name = line; sub(/^.* TO /, "", name); sub(/( USING | WITH CHECK |;).*$/, "", name)
    for (n = split(name, names, ", "); n > 0; n--) role(names[n])
  }
  if (line ~ /^ALTER DEFAULT PRIVILEGES FOR ROLE /) {
    name = line; sub(/^ALTER DEFAULT PRIVILEGES FOR ROLE /, "", name)
    if (name ~ /^"/) match(name, /^"([^"]|"")+"/); else match(name, /^[^ ]+/)
    role(substr(name, 1, RLENGTH))
    name = line; sub(/^.* (TO|FROM) /, "", name); sub(/( WITH GRANT OPTION)?;$/, "", name); role(name)
  }
}
# pg_dump moves rows by COPY … FROM stdin; a file or a program is somebody else's hand.
function foreign_hand(line,  upper) {
  upper = toupper(substr(line, 1, 4000))
  if (upper !~ /^[ \t]*COPY[ \t("]/) return 0
  if (upper ~ /[ \t)](FROM|TO)[ \t]+(PROGRAM[ \t]+)?(E?'|\$)/) return 1
  return 0
}
# Bodies of functions stand between dollar quotes; what is written there is not run by the load.
function dollars(line,  rest, tag) {
  rest = line
  while (1) {
    if (quote == "") {
      if (match(rest, /\$([A-Za-z_][A-Za-z0-9_]*)?\$/) == 0) return
      quote = substr(rest, RSTART, RLENGTH); rest = substr(rest, RSTART + RLENGTH)
    } else {
      tag = index(rest, quote)
      if (tag == 0) return
      rest = substr(rest, tag + length(quote)); quote = ""
    }
  }
}

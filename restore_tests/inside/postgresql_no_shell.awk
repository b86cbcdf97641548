# Stands where a shell would in the server's sandbox, and runs nothing. Only COPY … PROGRAM and its kind
# ask a server for a shell, and an error that the dump's own code caught is not in the log: this line is.
BEGIN { print "BG|38000|psql|ERROR:  program \"sh\" failed" >> "/scratch/log/server"; exit 1 }

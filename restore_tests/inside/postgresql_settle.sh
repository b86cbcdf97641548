# Leaves nothing of the source server's own life in its data directory: what it was told, whom it served.
data=$1
cd "$data" || exit 91
rm -rf postmaster.pid postmaster.opts tablespace_map recovery.conf recovery.signal standby.signal \
  pg_replslot pg_stat_tmp pg_dynshmem pg_notify pg_snapshots pg_internal.init
mkdir -p pg_commit_ts pg_dynshmem pg_logical/mappings pg_logical/snapshots pg_multixact/members \
  pg_multixact/offsets pg_notify pg_replslot pg_serial pg_snapshots pg_stat pg_stat_tmp pg_subtrans \
  pg_tblspc pg_twophase pg_wal/archive_status pg_xact || exit 91
rm -f postgresql.auto.conf pg_hba.conf pg_ident.conf
: >postgresql.auto.conf
find pg_wal -maxdepth 1 -type f -printf '%f\n'

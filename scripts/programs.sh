# shellcheck shell=bash
# Sourced: where Postgres and Redis are installed. The same places, in the same order, as kontor/src/servers/.

tools="$(realpath -m "${KONTOR_DATA:-.kontor}")/tools"

# A Python with the servers of others that the tests talk to.
test_tools="$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "${BASH_SOURCE[0]}")/../target}")/test-tools"

# Prints the folder of a Postgres 15 or newer that is complete (server, initdb, psql, pgbench).
find_postgres() {
  local version folder
  while read -r folder; do
    [[ -x $folder/postgres ]] || continue
    folder=$(dirname "$(realpath "$folder/postgres")")
    version=$("$folder/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
    if ((version >= 15)) && [[ -x $folder/initdb && -x $folder/psql ]]; then
      echo "$folder"
      return
    fi
  done < <(tr ':' '\n' <<<"$PATH"; printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV; echo "$tools/bin")
  return 1
}

# Prints the path of a Redis server 6.2 or newer. (Never its real path: Debian's is another program by that name.)
find_redis() {
  local version folder
  while read -r folder; do
    [[ -x $folder/redis-server ]] || continue
    version=$("$folder/redis-server" --version | sed -E 's/.* v=([0-9]+)\.([0-9]+).*/\1 * 100 + \2/')
    if ((version >= 602)); then
      echo "$folder/redis-server"
      return
    fi
  done < <(tr ':' '\n' <<<"$PATH"; echo "$tools/bin")
  return 1
}

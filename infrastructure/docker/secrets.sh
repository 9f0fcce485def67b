# Makes the secrets of docker-compose.yml beside it, in .env, which only you can read. Keeps one that is there: the
# database has its password. Needs nothing but a POSIX shell.
set -eu
cd "$(dirname "$0")"
if [ -e .env ]; then
    echo "$PWD/.env is there already: nothing changed"
    exit 0
fi
umask 077
for name in BETTING_POSTGRES_PASSWORD BETTING_REDIS_PASSWORD BETTING_INTERNAL_SECRET BETTING_OPERATOR_PASSWORD; do
    echo "$name=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')"
done >.env.new
mv .env.new .env
echo "wrote $PWD/.env"

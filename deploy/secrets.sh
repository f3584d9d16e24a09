#!/bin/sh
# Make the secrets of deploy/compose.yaml in the folder that is named, or in deploy/secrets, unless they are there.
# Compose mounts each as it is, so that the services' users must be able to read them: the folder keeps all others out.
set -eu
umask 022
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
# Written whole or not at all: a start that is interrupted leaves no half secret.
keep() {
    [ -s "$1" ] || { cat >"$1.new" && chmod 444 "$1.new" && mv "$1.new" "$1"; }
}

head -c 32 /dev/urandom | keep secret
random | keep postgres_password
random | keep s3_secret_key
printf bnfold | keep s3_access_key
printf 'postgresql://bnfold:%s@postgres:5432/bnfold' "$(cat postgres_password)" | keep database_url
printf '{"identities": [{"name": "bnfold", "actions": ["Admin", "Read", "Write", "List", "Tagging"], "credentials": [%s]}]}' \
    "{\"accessKey\": \"$(cat s3_access_key)\", \"secretKey\": \"$(cat s3_secret_key)\"}" | keep s3_identities.json

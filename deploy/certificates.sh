#!/bin/sh
# Makes what the nodes of a cluster need to trust one another: an authority, a certificate that all nodes share, a token,
# and the settings that name them. Copy the folder to every node, to the same path.
#
#     deploy/certificates.sh FOLDER
set -eu
umask 077
folder=${1:?usage: $0 FOLDER}
mkdir -p "$folder"
cd "$folder"
if [ -e authority.pem ]; then
  echo "$folder holds an authority already: remove the folder to make another" >&2
  exit 1
fi

key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -keyout authority.key -out authority.pem -days 3650 -subj "/CN=distgrad authority" \
  -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
openssl req $key -keyout node.key -out node.csr -subj "/CN=distgrad" 2>/dev/null
echo "subjectAltName=DNS:distgrad" > node.ext
openssl x509 -req -in node.csr -CA authority.pem -CAkey authority.key -CAcreateserial -out node.pem -days 365 \
  -extfile node.ext 2>/dev/null
rm node.csr node.ext
openssl rand -hex 24 > token

cat > distgrad.env <<EOT
DISTGRAD_TOKEN_FILE=$(pwd)/token
DISTGRAD_TLS_AUTHORITY=$(pwd)/authority.pem
DISTGRAD_TLS_CERTIFICATE=$(pwd)/node.pem
DISTGRAD_TLS_KEY=$(pwd)/node.key
DISTGRAD_TLS_SERVER_NAME=distgrad
EOT
echo "made $(pwd): keep authority.key to yourself, and give the nodes the rest"

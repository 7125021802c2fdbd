#!/bin/sh
# Builds the example with the packages of Debian, no module fetched: build.sh FOLDER makes FOLDER/score.
# RANKPORT_PROTOS names the folder with rankport/protos/v1/rankport.proto: protos/ of the sources, or where pip put it.
#   apt-get install golang-go golang-google-grpc-dev golang-google-genproto-dev golang-google-protobuf-dev \
#       protobuf-compiler protoc-gen-go-1-5 protoc-gen-go-grpc
set -eu
here=$(cd "$(dirname "$0")" && pwd)
protos=${RANKPORT_PROTOS:-$here/../../../protos}
mkdir -p "$1"
out=$(cd "$1" && pwd)
source=$out/src/rankport-example

mkdir -p "$source"
cp "$here"/*.go "$source"
proto=rankport/protos/v1/rankport.proto
stubs="module=rankport-example,M$proto=rankport-example/rankportv1"
protoc -I "$protos" --go_out="$stubs:$source" --go-grpc_out="$stubs:$source" "$proto"

cd "$source"
GO111MODULE=off GOPATH="$out:/usr/share/gocode" go build -tags debian -o "$out/score" .

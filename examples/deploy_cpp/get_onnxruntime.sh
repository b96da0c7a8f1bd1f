#!/bin/sh
# Bring what this example is built with into a folder, on a Debian whose own release lacks it:
# headers from the packages libonnxruntime-dev and nlohmann-json3-dev of Debian 13, and the library from Python's onnxruntime.
# A library takes programs that were built with the headers of an older version. It installs nothing.
#
#     sh get_onnxruntime.sh PYTHON FOLDER    # PYTHON has the package onnxruntime
set -eu
python=$1 folder=$2
if [ -e "$folder" ] && [ ! -e "$folder/made-by-get_onnxruntime" ] && [ -n "$(ls -A "$folder")" ]; then
  echo "$folder: is there already, with other files; choose another folder" >&2
  exit 1
fi
mkdir -p "$folder"
release=trixie
# The machine's own mirror, which also has the newer release.
mirror=$(. /etc/os-release && apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' "Release: $VERSION_CODENAME" |
  grep '/debian/$' | head -n 1)
[ -n "$mirror" ] || { echo "no mirror of Debian among apt's sources; give CMake -DONNXRUNTIME_ROOT" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/sources" "$work/lists/partial" "$work/cache/archives/partial"
printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
  "$mirror" "$release" > "$work/sources/$release.sources"
apt() {
  apt-get -qq -o APT::Sandbox::User= -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$work/sources" \
    -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}
apt update
(cd "$work" && apt download libonnxruntime-dev nlohmann-json3-dev)
for package in "$work"/*.deb; do
  dpkg-deb -x "$package" "$work/files"
done

library=$("$python" -c 'import onnxruntime, pathlib; print(*pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))')
touch "$folder/made-by-get_onnxruntime"
rm -rf "$folder/include" "$folder/lib"
mkdir -p "$folder/lib"
cp -r "$work/files/usr/include" "$folder/include"
ln -s "$library" "$folder/lib/libonnxruntime.so"
ln -s "$library" "$folder/lib/libonnxruntime.so.1" # the name by which a program asks for it

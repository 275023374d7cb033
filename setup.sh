#!/bin/sh
# Sets the project up beside this file, if it is not, and runs a command in it:
#
#   sh setup.sh mobilevd run configs/tiny.yaml
#   sh setup.sh pytest
#
# Needs python3 with pip, and a C++ compiler to measure with; everything else goes into .venv and .bootstrap here.
# Says nothing when there is nothing to do. Again after an interruption: the same command.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=$root/.venv
stamp=$venv/.setup-stamp
uv_version=0.13.9
space_gb=7 # torch with CUDA's libraries, ExecuTorch and the rest

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The Python for .venv: this machine's if it is new enough, else "3.12", which uv can fetch.
choose_python() {
    if python3 -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'; then
        python3 -c 'import sys; print(sys.executable)'
    else
        echo 3.12
    fi
}

# uv, from PATH or put into .bootstrap by pip; prints its path. Fails quietly where pip cannot get it.
find_uv() {
    if [ ! -x "$root/.bootstrap/bin/uv" ]; then
        if command -v uv; then return; fi
        fresh=$root/.cache/bootstrap
        rm -rf "$fresh"
        PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --target "$fresh" "uv==$uv_version" >&2 || return 1
        rm -rf "$root/.bootstrap" # renamed into place whole: a kill leaves no half of it
        mv "$fresh" "$root/.bootstrap"
    fi
    echo "$root/.bootstrap/bin/uv"
}

# Bytecode at once, as pip does: where PYTHONDONTWRITEBYTECODE is set, as in containers, it would never be kept, and every
# start would compile torch anew (32 s of imports against 11).
install_with_uv() (
    trust_as_pip_does
    "$venv/bin/python" -c '' 2>/dev/null || "$1" venv --quiet --clear --python "$(choose_python)" "$venv" || return 1
    cd "$root" && "$1" pip install --quiet --compile-bytecode --python "$venv/bin/python" -c constraints.txt -e '.[dev]'
)

# uv brings its own certificates, among which a company's is not; pip's setting, if there is one, or the system's hold here.
trust_as_pip_does() {
    given=${SSL_CERT_FILE:-${PIP_CERT:-${REQUESTS_CA_BUNDLE:-}}}
    if [ -f "$given" ]; then
        SSL_CERT_FILE=$given
        export SSL_CERT_FILE
    fi
    UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true} UV_NATIVE_TLS=${UV_NATIVE_TLS:-true} # the older name, for a uv from PATH
    export UV_SYSTEM_CERTS UV_NATIVE_TLS
}

check_space() {
    free_kb=$(df -Pk "$root" 2>/dev/null | awk 'NR == 2 { print $4 }')
    case $free_kb in
        '' | *[!0-9]*) return ;; # a file system that does not tell
    esac
    [ "$free_kb" -ge $((space_gb * 1000000)) ] ||
        fail "$root has $((free_kb / 1000000)) GB free, and .venv takes $space_gb; free some, or clone to another disk"
}

install_with_pip() {
    python=$(choose_python)
    [ "$python" != 3.12 ] || fail "python3 is $(python3 -V 2>&1), but 3.11, 3.12 or 3.13 is needed"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
    # Extra places to look in may hold another build of torch under the same version, which torchvision cannot load.
    (cd "$root" && unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL && PIP_CONFIG_FILE=/dev/null \
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]')
}

# What lies here is run: not from a folder that somebody else owns, nor through a link to one.
[ -O "$root" ] || fail "$root belongs to another user, whose code would run; clone the project into a folder of your own"
for place in .venv .bootstrap .cache; do
    [ ! -L "$root/$place" ] || fail "$root/$place is a link; remove it, and give the same command again"
    [ ! -e "$root/$place" ] || [ -O "$root/$place" ] || fail "$root/$place belongs to another user; remove it"
done
command -v python3 >/dev/null || fail "python3 is needed (3.11 to 3.13): install it and give the same command again"
# The folder is part of it: a .venv that was moved or copied points to its old place.
wanted="$(cat "$root/pyproject.toml" "$root/constraints.txt" | cksum) $root"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    [ -e "$venv" ] || check_space
    say "installing into .venv (a minute or two, $space_gb GB)"
    if ! uv=$(find_uv); then
        say "uv cannot be installed; going on with venv and pip, which is slower"
        install_with_pip
    elif ! install_with_uv "$uv"; then
        say "uv failed (see above); trying venv and pip, which is slower"
        install_with_pip
    fi
    printf '%s\n' "$wanted" >"$stamp.new"
    mv "$stamp.new" "$stamp"
    say "done"
fi

if [ $# -eq 0 ]; then
    say "ready; for example: sh setup.sh mobilevd run configs/tiny.yaml"
    exit 0
fi
VIRTUAL_ENV=$venv
PATH=$venv/bin:$PATH
export VIRTUAL_ENV PATH
exec "$@"

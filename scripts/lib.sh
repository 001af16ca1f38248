# Functions that the scripts share: virtual environments, Debian packages, Python versions. To be sourced.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=${PYTHONDONTWRITEBYTECODE:-}
VENVS=$PWD/.venvs

say() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }

# Install missing Debian packages as root; otherwise name them and fail.
need_debian() {
    local missing=() package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        say "installing ${missing[*]}"
        export DEBIAN_FRONTEND=noninteractive
        apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
            { apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
    else
        echo "missing Debian packages, install them first: sudo apt-get install ${missing[*]}" >&2
        return 1
    fi
}

# Print the first working Python of a version, from PATH or pyenv.
find_python() {
    local candidate
    for candidate in "$(command -v "python$1" || true)" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python /opt/python"$1"/bin/python; do
        if [ -x "$candidate" ] && [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

# make_venv NAME PYTHON LOCK [PROJECT]: create .venvs/NAME with the releases in requirements/LOCK.txt, whose hashes are checked, and
# with the project, editable. Create it anew if its inputs have changed.
make_venv() {
    local name=$1 python=$2 lock=requirements/$3.txt stamp
    stamp=$(cat "$lock" pyproject.toml - <<<"$python ${4:-}" | sha256sum | cut -d' ' -f1)
    if [ "$(cat "$VENVS/$name/stamp" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    say "setting up .venvs/$name"
    mkdir -p "$VENVS"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        need_debian python3-venv
    fi
    "$python" -m venv --clear "$VENVS/$name"
    "$VENVS/$name/bin/pip" install -qq --require-hashes --no-deps --requirement "$lock"
    [ -z "${4:-}" ] || "$VENVS/$name/bin/pip" install -qq --no-deps --no-build-isolation --no-index --editable "$4"
    # The page cache keeps new files in large folios, which count as memory of every process that maps them. Drop them once.
    find "$VENVS/$name" -name '*.so*' -exec sync {} +
    find "$VENVS/$name" -name '*.so*' -exec dd if={} iflag=nocache count=0 status=none \;
    echo "$stamp" >"$VENVS/$name/stamp"
}

# The device supports Python 3.10 and later; training, tests and checks need 3.11.
device_python() { find_python 3.11 || find_python 3.12 || find_python 3.13 || find_python 3.10 || no_python 3.10; }
dev_python() { find_python 3.11 || find_python 3.12 || find_python 3.13 || no_python 3.11; }
no_python() {
    echo "no Python $1 to 3.13 found, install one first: sudo apt-get install python3" >&2
    return 1
}

# shellcheck shell=bash
# What the drivers that train on Multi30k share; they read it with their own arguments. It sets work, the folder of all runs.
. "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib.sh"

work='' from=()
while [ $# -gt 0 ]; do
    case $1 in
        --work) need_value "$@" && work=$2 && shift ;;
        --from) need_value "$@" && from=(--from "$2") && shift ;;
        -h | --help) show_help ;;
        *) die "unknown option $1; see --help" ;;
    esac
    shift
done
[ -n "$work" ] || die "--work DIR is missing; see --help"
mkdir -p "$work"
work=$(cd "$work" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

# train NAME CONFIG [--from DIR]: train, translate the test set and score
train() {
    say "$1"
    bash "$PROJECT/scripts/quickstart.sh" --corpus multi30k "${from[@]}" --config "$here/$2.sh" --work "$work/$1" "${@:3}"
}

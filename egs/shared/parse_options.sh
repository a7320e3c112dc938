# Turns the variables of a script into its options.  Sourced, after the defaults:
#
#   help_message="What this script does"
#   stage=0         # first stage to run
#   . shared/parse_options.sh || exit 1
#
# Every variable assigned in lower case at the start of a line before this one is an option: `--some-name value`
# sets some_name, and `--help` prints the list with the comments beside the defaults.  A word that belongs to no
# option is refused, so that a forgotten dash does not run with the defaults.

_script=${BASH_SOURCE[1]:-$0}

# "name<TAB>comment" of every option of the script, in its order.
_options() {
  sed -n -e '/^\(\.\|source\) .*parse_options\.sh/q' \
    -e 's/^\([a-z][a-z0-9_]*\)=[^#]*\(#[[:space:]]*\)\{0,1\}\(.*\)$/\1\t\3/p' "$_script" | grep -v '^help_message'
}

_print_help() {
  local name comment value
  printf '%s\n\nOptions:\n' "${help_message:-$_script}"
  while IFS=$'\t' read -r name comment; do
    value=${!name}
    printf '  --%-18s %s (%s)\n' "${name//_/-}" "$comment" "${value:-none}"
  done < <(_options)
}

# Option names that resemble the one given: those that begin alike, hold it, or share a part between dashes.
_neighbours() {
  local wanted=$1 name part found=""
  while IFS=$'\t' read -r name _; do
    for part in ${wanted//_/ }; do
      case "_${name}_" in
        *_"$part"_* | _"${part:0:3}"*) found="$found --${name//_/-}"; break ;;
      esac
    done
  done < <(_options)
  [ -n "$found" ] || found=$(_options | cut -f 1 | tr _ - | sed 's/^/ --/' | tr -d '\n')
  echo "${found# }" | sed 's/ /, /g'
}

_refuse() {
  echo "$(basename "$_script"): error: $1" >&2
  exit 2
}

while [ $# -gt 0 ]; do
  case "$1" in
    --help | -h)
      _print_help
      exit 0
      ;;
    --*)
      _flag=${1%%=*}
      _name=${_flag#--}
      _name=${_name//-/_}
      _options | cut -f 1 | grep -qxF -- "$_name" ||
        _refuse "there is no option $_flag; near it: $(_neighbours "$_name"); --help lists all"
      case "$1" in
        *=*) _value=${1#*=} ;;
        *)
          [ $# -ge 2 ] || _refuse "$_flag expects a value, found none; write $_flag VALUE"
          _value=$2
          shift
          ;;
      esac
      case "${!_name}:$_value" in
        true:true | true:false | false:true | false:false) ;;
        true:* | false:*) _refuse "$_flag expects true or false, found '$_value'" ;;
      esac
      case "$_name" in
        stage | stop_stage)
          case "$_value" in
            '' | *[!0-9]*) _refuse "$_flag expects a stage's number, found '$_value'" ;;
          esac
          ;;
      esac
      printf -v "$_name" '%s' "$_value"
      shift
      ;;
    *) _refuse "expected options, which begin with two dashes, found '$1'; --help lists all" ;;
  esac
done

unset _script _flag _name _value
unset -f _options _print_help _neighbours _refuse
true

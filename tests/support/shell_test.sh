# Sourced by tests written in shell: they run in a folder of their own, which goes with them, and count what fails.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

# fail WHAT...
fail() {
  failures=$((failures + 1))
  echo "FAILED: $*"
}

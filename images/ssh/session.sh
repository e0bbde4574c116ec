#!/run/lease/ssh/busybox sh
# What a session runs as its shell: the image's own, in the environment that a command of the container has.
tools=/run/lease/ssh
echo > "$LEASE_SSH/begun"
. "$LEASE_SSH/environment"
unset LEASE_SSH
own=$($tools/busybox id -u)
shell=
while IFS=: read -r _ _ id _ _ _ named; do
    [ "$id" != "$own" ] || { shell=$named; break; }
done 2>/dev/null < /etc/passwd
case $shell in */nologin | */false) shell= ;; esac
for shell in "$shell" /bin/bash /bin/sh ""; do
    [ ! -x "$shell" ] || break
done
[ $# -gt 0 ] || set -- -l
if [ -n "$shell" ]; then
    export SHELL="$shell"
    exec "$shell" "$@"
fi
export SHELL=/bin/sh
exec $tools/busybox sh "$@"

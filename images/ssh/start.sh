#!/run/lease/ssh/busybox sh
# One SSH connection, on standard input and output. Runs as the lease's user in any image: all that it needs lies beside
# it. Before the client's first byte come the key that is let in, a line, and the host's private key. On the second
# output it prints a line whenever a session begins, and whenever somebody has typed in a terminal of the container.
tools=/run/lease/ssh
run=$tools/busybox
umask 077
for place in /dev/shm /tmp; do
    own=$($run mktemp -d "$place/.lease-ssh.XXXXXX" 2>/dev/null) && break
done
[ -n "$own" ] || { echo "Neither /dev/shm nor /tmp can be written to."; exit 1; }
ended() {
    trap '' HUP INT TERM
    kill "$server" "$watch" 2>/dev/null
    $run rm -rf "$own"
}
trap ended EXIT
trap 'ended; exit 129' HUP INT TERM

IFS= read -r let_in
echo "$let_in" > "$own/let-in"
while IFS= read -r line; do
    echo "$line"
    case $line in "-----END "*) break ;; esac
done > "$own/host"

# What a command of the container finds in its environment, a session finds too: sshd starts from an empty one.
unset COLUMNS LINES TERM SHLVL OLDPWD PWD _ let_in line place
export -p > "$own/environment"
# The image's own list of users need not know this one. The account has no password, and is not locked.
id=$($run id -u)
group=$($run id -g)
echo "lease:*:$id:$group::${HOME:-/}:$tools/session" > "$own/passwd"
printf 'lease:x:%s:\ntty:x:5:\n' "$group" > "$own/group"
$run mkfifo "$own/begun"
umask 022

exec 3<&0
$run env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin OPENSSL_CONF=/dev/null \
    LD_PRELOAD=$tools/lib/libnss_wrapper.so NSS_WRAPPER_HOSTS=/etc/hosts \
    NSS_WRAPPER_PASSWD="$own/passwd" NSS_WRAPPER_GROUP="$own/group" \
    $tools/sshd -i -f /dev/null -o "HostKey=$own/host" -o "AuthorizedKeysFile=$own/let-in" \
    -o "SetEnv=LEASE_SSH=$own" -o "Subsystem=sftp internal-sftp" -o StrictModes=no -o UsePAM=no \
    -o AuthenticationMethods=publickey -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no \
    -o "AcceptEnv=COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION" -o AllowUsers=lease -o MaxSessions=100 \
    -o PermitUserRC=no -o PrintMotd=no -o PrintLastLog=no -o UseDNS=no -o TCPKeepAlive=no -o LoginGraceTime=30 \
    -o LogLevel=QUIET -o PidFile=none <&3 2>/dev/null &
server=$!

# A terminal's last access is when somebody's input was last read from it; the kernel tells it in steps of 8 seconds.
exec 3<&- </dev/null >/dev/null 4<>"$own/begun"
seen=$($run date +%s)
while :; do
    if read -r -t 5 _ <&4; then echo begun >&2; fi
    for terminal in /dev/pts/[0-9]*; do
        at=$($run stat -c %X "$terminal" 2>/dev/null) || continue
        [ "$at" -le "$seen" ] || { seen=$at; echo typed >&2; }
    done
done &
watch=$!
wait $server

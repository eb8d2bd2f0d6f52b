# Runs one cluster's server and outlives whoever asked for it. Started by supervisor.rs under the
# server's account, in a session of its own, with the other end of standard input in the owner's
# hands: when that ends, whatever became of the owner, the server is stopped and the folder deleted.
#
#   $1         the folder of the cluster: made here, so that it belongs to the right account
#   $2         seconds that a shared server lingers after its last holder has gone
#   $3 ...     the server's command line
#
# Verbs on standard input, one a line:
#   start             start the server; the file `pid` appears, at its end `exited` with the status
#   TERM, INT, QUIT   send it that signal: PostgreSQL's smart, fast and immediate shutdown
#   share             hold the server for everybody who has the pipe `holders` open for writing

# The signals of a terminal and of runners are for the owner, not for us.
trap '' HUP INT QUIT TERM
umask 077
unset TESTKIT_SUPERVISOR
folder=$1 linger=$2
shift 2

mkdir "$folder" 2>&1 || exit 1
cd "$folder" || exit 1
echo $$ >supervisor
# If the owner has died meanwhile, this is the end of the subshell, not ours.
(echo made)

serve() {
    rm -f exited
    (
        "$@" </dev/null >>log 2>&1 &
        echo $! >pid.new
        mv pid.new pid
        wait $!
        echo $? >exited.new
        rm -f pid
        mv exited.new exited
    ) >/dev/null &
    # A signal that comes at once must find the process.
    until [ -e pid ] || [ -e exited ]; do sleep 0.01; done
}

while read -r verb; do
    case $verb in
    start) serve "$@" ;;
    share)
        mkfifo holders
        # The writing end of our own lets the reading one open without waiting for a holder.
        exec 4<>holders 3<holders
        echo shared >shared
        ;;
    *) [ ! -e pid ] || kill -s "$verb" "$(cat pid)" ;;
    esac
done

if [ -e shared ]; then
    exec 4>&-
    # cat returns when the last holder has gone, with what each of them wrote. If that is nothing,
    # there was none since we looked before, and the server has lingered long enough.
    # The pipe is for nobody else to hold open: without a reader it tells that we were killed.
    while
        sleep "$linger" 3<&-
        [ -n "$(cat <&3)" ]
    do :; done
    # Who opens the pipe from here on finds no `ready` and looks elsewhere. Who found it is served.
    rm -f ready
    cat <&3 >/dev/null
fi

# Again and again, because the server inherits from a shell in the background that it ignores QUIT
# until it has installed a handler of its own. A stopped one has to be woken up for its end.
tries=0 signal=QUIT
while [ -e pid ]; do
    kill -s $signal "$(cat pid)"
    kill -s CONT "$(cat pid)"
    sleep 0.02
    tries=$((tries + 1))
    [ $tries -lt 1000 ] || signal=KILL
done
wait

# Processes of a server that was killed may still be writing.
cd /
tries=0
until rm -rf "$folder" || [ $tries -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done

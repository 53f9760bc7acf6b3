#!/bin/sh
# A consumer in plain shell: curl and sed, no access to Redis.
#
#     headrace serve &
#     examples/consumer.sh &
#     headrace produce echo hi
#
# It claims one job at a time, and waits for it at the server; nothing polls. When it is killed in the
# middle of a job, that is given to another consumer after its lease. On SIGTERM it finishes its job.
set -u
server=${HEADRACE_SERVER:-http://127.0.0.1:8390}/api/v1
queue=${HEADRACE_QUEUE:-queue}
wanted="{\"consumer\": \"shell-$$\", \"queues\": [\"$queue\"], \"wait\": 30, \"lease\": 60}"

# What the tasks do: the task's name and its arguments, as JSON. Whether it succeeds is whether they did.
run() {
    case $1 in
        echo) echo "$2" ;;
        *) echo "there is no task $1 here" >&2; return 1 ;;
    esac
}

answer=$(mktemp) over='' curl=''
trap 'over=1; [ -z "$curl" ] || kill "$curl"' TERM INT
trap 'rm -f "$answer"' EXIT

post() {  # a path and a body; in the background, for a shell hears a signal only between two commands
    curl -sS --fail-with-body --json "$2" "$server/$1" > "$answer" & curl=$!
    wait "$curl"
    status=$? curl=''
    return "$status"
}
text() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" "$answer"; }

while [ -z "$over" ]; do
    if ! post claims "$wanted"; then
        [ -n "$over" ] || sleep 1  # the server, or its Redis, is away
        continue
    fi
    claim=$(text claim)
    [ -n "$claim" ] || continue  # there was no job in time
    task=$(text task)
    args=$(sed -n 's/.*"args":\(\[.*\]\),"kwargs":.*/\1/p' "$answer")
    job="\"queue\": \"$(text queue)\", \"id\": \"$(text id)\", \"claim\": \"$claim\""
    if run "$task" "$args"; then end=ack; else end=retry; fi
    # Sent again it changes nothing, so it is sent until there is an answer.
    until post claims/settle "{\"outcomes\": [{$job, \"end\": \"$end\"}]}"; do sleep 1; done
done

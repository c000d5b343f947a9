#!/bin/sh
# stamp.sh [SECONDS]: raises BUILD_DATE in both agents to the time of this build.
#
# Run it before a release is built. SECONDS (since 1970) is SOURCE_DATE_EPOCH or the clock if it is
# not given. A date never goes back: an agent would accept a clock that the one before refused.
set -eu

agents=$(cd "$(dirname "$0")/../src/certmint_agent" && pwd)
wanted=${1:-${SOURCE_DATE_EPOCH:-$(date -u +%s)}}
wanted=$((wanted / 86400 * 86400)) # a day is exact enough, and makes builds of one day equal
present=$(sed -n 's/^BUILD_DATE=\([0-9]*\).*/\1/p' "$agents/certmint-agent.sh")
if [ "$wanted" -lt "$present" ]; then
	echo "stamp.sh: $wanted is before the BUILD_DATE that is there, $present: is the clock right?" >&2
	exit 1
fi
day=$(date -u -d "@$wanted" +%Y-%m-%d)
words=$(date -u -d "@$wanted" '+%Y, %-m, %-d')
sed -i "s/^BUILD_DATE=[0-9]* # [0-9-]*/BUILD_DATE=$wanted # $day/" "$agents/certmint-agent.sh"
sed -i "s/^BUILD_DATE = dt.datetime(.*, tzinfo=dt.UTC)/BUILD_DATE = dt.datetime($words, tzinfo=dt.UTC)/" "$agents/__init__.py"
echo "BUILD_DATE is $day"

#!/bin/sh
# certmint-agent.sh: keeps a device's HTTPS certificate fresh
#
# Laws: what has a name is complete, and `live` changes by one rename. A key and its CSR are on disk
# before the CSR leaves. What the server sends is compared, never run. No secret is in argv.
# shellcheck disable=SC1007,SC2005,SC2010,SC2015,SC2018,SC2019,SC2046,SC2086,SC2116,SC2154,SC2164

BUILD_DATE=1793491200 # 2026-11-01: no clock that shows less can be right
USAGE='usage: certmint-agent.sh enrol|renew|run|status --config FILE (see docs/agents.md)'
KEYS='server label ca_file service_folder identity_certificate identity_key names key_kind
reload_command check_address check_name check_timeout_s owner_username owner_password_file'

say() { printf '%s\n' "$*" | tr -cd '\n -~'; }
die() { # EXIT-CODE SENTENCE
	say "certmint-agent.sh: $2" >&4
	exit $1
}
disk() { die 8 "$service_folder cannot be written"; }

configure() { # KEY=value lines, perhaps in quotes: parsed, never sourced
	for key in $KEYS; do eval "$key="; done
	key_kind=ec-p256 check_timeout_s=20
	[ -r "$config" ] || die 2 "--config '$config' cannot be read"
	while IFS= read -r line || [ "$line" ]; do
		key=${line%%=*} value=${line#*=}
		case $value in \"*\" | \'*\') value=${value#?} value=${value%?} ;; esac
		case $line in '' | '#'*) continue ;; esac
		case $key,$value in
		*[!A-Za-z0-9./:_@%+,~*\ =-]* | [!nr]*\ *) die 2 "$config: a strange character in $key" ;;
		*_file,[!/]* | *_folder,[!/]* | identity_*,[!/]*) value=${config%/*}/$value ;;
		esac
		case " $(echo $KEYS) " in *" $key "*) eval "$key=\$value" ;; *) die 2 "$config: unknown key '$key'" ;; esac
	done <"$config"
	case $server,$key_kind,$check_timeout_s in
	https://?*,ec-p256,*[0-9] | https://?*,rsa-2048,*[0-9]) ;;
	*) die 2 'server (https://), key_kind or check_timeout_s is wrong' ;;
	esac
	[ "$service_folder" ] && [ "$ca_file" ] && [ "$identity_key$owner_username" ] || die 2 'service_folder, ca_file or identity_key is missing'
	for file in $ca_file $identity_certificate $identity_key $owner_password_file; do
		[ -r $file ] || die 2 "$file cannot be read"
	done
	authority=${server#https://}
	prefix=${authority#"${authority%%/*}"} authority=${authority%%/*}
	connect=$authority:443 host=${authority%:*} prefix=${prefix%/} est=/.well-known/est${label:+/$label}
	case $authority in *:*) connect=$authority ;; esac
}

when() { # a time as openssl, HTTP or the server writes it: sets $epoch
	set -- $(echo "$1" | tr A-Z,:- 'a-z   ' | sed 's/.*=//; s/\.[0-9]*//; s/\([0-9]\)[tz]/\1 /g')
	case $# in
	7) set -- $6 $1 $2 $3 $4 $5 ;;
	8) set -- $4 $3 $2 $5 $6 $7 ;;
	esac
	[ $# = 6 ] || return 1
	m=${2#0} months=janfebmaraprmayjunjulaugsepoctnovdec
	case $m in [a-z]*) m=${months%%"$m"*} m=$((${#m} / 3 + 1)) ;; esac
	case $1$m$3$4$5$6 in *[!0-9]*) return 1 ;; esac
	y=$1
	[ $m -gt 2 ] || y=$((y - 1)) m=$((m + 12))
	epoch=$(((y * 365 + y / 4 - y / 100 + y / 400 + (153 * m - 457) / 5 + ${3#0} - 719469) * 86400 + ${4#0} * 3600 + ${5#0} * 60 + ${6#0}))
}
x509() { openssl x509 -noout -in "$@"; } # FILE -WHAT
dates_of() { # CERTIFICATE: sets $not_before and $not_after
	when "$(x509 $1 -startdate)" && not_before=$epoch && when "$(x509 $1 -enddate)" && not_after=$epoch
}
shown() { date -u -d @$1 +%Y-%m-%dT%H:%M:%SZ; }
dice() { echo $((0x$(openssl rand -hex 4) % ($1 > 0 ? $1 : 1))); } # a number below N

bounded() { # SECONDS COMMAND, with input from 3; `timeout` may be missing
	left=$1
	shift
	"$@" <&3 3<&- 4>&- &
	child=$!
	(
		while [ $left -gt 0 ] && kill -0 $child; do sleep 1 && left=$((left - 1)); done
		kill $child
	) >/dev/null 2>&1 3<&- 4>&- &
	watcher=$!
	wait $child
	result=$?
	kill $watcher
	child=
	return $result
}

exchange() { # METHOD PATH [CSR-FILE]: sets $status; $w/head is in lower case
	if [ -z "$clock_lost" ] && command -v curl >/dev/null; then
		curl_words "$@" | curl -q -K -
	else
		http_request "$@" | bounded 30 s_client 3<&0
	fi | tr -d '\r' >$w/answer
	sed '/^$/q' $w/answer | tr A-Z a-z >$w/head
	sed '1,/^$/d' $w/answer >$w/body
	status=$(sed -n '1s/^http[^ ]* \([0-9]*\).*/\1/p' $w/head)
	[ "$status" ] || die 3 "$server cannot be reached: $(tail -n 1 $w/error | cut -c 1-200)"
}
header() { sed -n "s/^$1: *//p" $w/head; }
login() {
	printf 'Authorization: Basic '
	(printf %s: "$owner_username" && tr -d '\r\n' <$owner_password_file) | openssl base64 -A
}
curl_words() { # an empty capath, or curl trusts the system's roots beside ours
	printf '%s\n' silent show-error include tlsv1.2 'noproxy="*"' header=Expect:
	printf '%s="%s"\n' url "https://$authority$prefix$2" cacert $ca_file capath $w/none max-time 30 max-filesize 1048576
	[ -z "$identity_certificate" ] || printf '%s="%s"\n' cert $identity_certificate key $identity_key
	[ -z "$owner_username" ] || printf 'header="%s"\n' "$(login)"
	[ $# = 2 ] || printf '%s="%s"\n' header 'Content-Type: application/pkcs10' data-binary @$3
}
http_request() { # HTTP/1.0: no chunks, and the server closes
	set -- $1 $2 ${3-/dev/null}
	printf '%s\r\n' "$1 $prefix$2 HTTP/1.0" "Host: $authority" 'Accept: */*' ${owner_username:+"$(login)"} \
		'Content-Type: application/pkcs10' "Content-Length: $(($(wc -c <$3)))" ''
	cat $3
}
s_client() { # exec keeps the process id that `bounded` knows
	case $host in *[!0-9.]*) set -- -verify_hostname $host ;; *) set -- -verify_ip $host ;; esac
	case $clock_lost in asking) set -- "$@" -no_check_time ;; told) set -- "$@" -attime $now ;; esac
	ulimit -f 4096 # no answer fills the memory that /tmp is made of
	exec openssl s_client -quiet -connect $connect -CAfile $ca_file -verify 9 -verify_return_error -min_protocol TLSv1.2 \
		${identity_certificate:+-cert $identity_certificate -key $identity_key} "$@"
}
tell_time() { # sets $now
	clock_lost= now=$(date -u +%s)
	[ $now -lt $BUILD_DATE ] || return 0
	# Verified without dates: only a key that ca_file ever vouched for can lie here. From then on
	# all is verified at the time that was told.
	clock_lost=asking
	exchange GET $est/cacerts
	when "$(header date)" && [ $epoch -ge $BUILD_DATE ] || die 3 'the clock is lost, and the server states no time'
	now=$epoch clock_lost=told
	say "the clock is lost; the server says $(shown $now)"
}

# We are in versions/: <n>/ holds key.pem, chain.pem, pair.pem (both) and state, ../live links to
# one. Where mv cannot replace a link, ../live/ is a folder with pair.pem alone: no order of two
# renames is safe between a key and its certificate, and one is.
lock() {
	me=$(process $$)
	for n in 1 2 3; do
		mkdir ../lock && echo "$me" >../lock/owner && locked=yes && return
		held=$(cat ../lock/owner) || { sleep 1 && held=$(cat ../lock/owner); } # it has just been made
		case $held in '' | "$me") ;; "$(process $held)") die 7 "another agent is at work in $service_folder" ;; esac
		rm -rf .stale && mv ../lock .stale # its owner was killed
	done
	disk
}
process() { # PID: what tells it from a later one
	[ ! -r /proc/$1/stat ] || echo $1 $(cut -d ' ' -f 22 /proc/$1/stat) $(cat /proc/sys/kernel/random/boot_id)
}
numbers() { ls | grep '^[1-9][0-9]*$' | sort -n; }
find_live() { # sets $live, empty if nothing whole is live
	live=$(readlink ../live)
	live=${live##*/}
	[ -L ../live ] || for n in $(numbers); do ! cmp -s $n/pair.pem ../live/pair.pem || live=$n; done
	is_pair "$live" || live=
}
is_pair() { # FOLDER: the key is that of the leaf
	half=$(openssl pkey -in $1/key.pem -pubout) && [ "$half" = "$(x509 $1/chain.pem -pubkey)" ]
}
discard() { # what is half deleted has no name
	[ ! -e $1 ] || mv $1 .gone && rm -rf .gone
}
adopt() { # FOLDER: the newest version; sets $new
	new=$(($(numbers | tail -n 1) + 1))
	mv $1 $new && sync || disk
}
point() { # VERSION: the mv is the moment
	if [ -d ../live ] && [ ! -L ../live ] || ! ln -s versions/$1 ../.live || ! mv -fT ../.live ../live; then
		[ ! -L ../live ] && mkdir -p ../live && cp $1/pair.pem ../live/.new && sync && mv -f ../live/.new ../live/pair.pem
	fi && sync || disk
	live=$1
}
remember() { # FOLDER: its state
	echo $start $end $renew_at $proved >$1/.state && sync && mv -f $1/.state $1/state && sync || disk
}
recall() { # FOLDER: its dates and state, drawn anew if damaged
	start= end= renew_at= proved=
	read -r start end renew_at proved <$1/state
	dates_of $1/chain.pem || disk
	case $start,$end,$renew_at,$proved in *[!0-9,]* | *,) start=0 end=0 proved=0 && draw ;; esac
}
draw() { # the moment of renewal, once for each window, not for each boot
	life=$((not_after - not_before))
	renew_at=$((end > start ? start + $(dice $((end - start))) : not_before + life * 2 / 3 + $(dice $((life / 10)))))
	last=$((not_after - (life < 6000 ? life / 10 : 600)))
	[ $renew_at -le $last ] || renew_at=$last
}

put_to_use() { # VERSION: the router serves exactly its leaf, or $why not
	why='reload_command failed'
	[ -z "$reload_command" ] || bounded 60 $reload_command 3</dev/null >/dev/null || return 1
	[ "$check_address" ] || return 0
	for name in $check_name $(names_in $1/chain.pem); do case $name in \**) ;; *) break ;; esac; done
	why="$check_address did not serve it" tries=$check_timeout_s
	until bounded 5 openssl s_client -connect $check_address -servername $name 3</dev/null >$w/shown
		[ "$(openssl x509 -in $w/shown)" = "$(openssl x509 -in $1/chain.pem)" ]; do
		[ $((tries -= 1)) -gt 0 ] && sleep 1 || return 1
	done
}
prove() { # VERSION, live: it is proved, or the one before is back
	older=
	for n in $(numbers); do [ $n -ge $1 ] || ! is_pair $n || older=$n; done
	if put_to_use $1; then
		# Proved comes last: after a power cut this is done again.
		for n in pending failed $(numbers); do case $n in "$1" | "$older") ;; *) discard $n ;; esac done
		proved=1
		remember $1
		return
	fi
	[ "$older" ] || die 6 "$why; nothing older is there, so it stays"
	failure=$why
	point $older
	discard failed
	mv $1 failed
	discard pending
	put_to_use $older && why='the previous one is back'
	die 6 "$failure; $why"
}

names_in() { # CERTIFICATE
	echo $(x509 $1 -ext subjectAltName | tr , '\n' | sed -n 's/^ *DNS://p; s/^ *IP Address://p' | tr -cd '\nA-Za-z0-9.*:_-')
}
covered() { # FOLDER NAMES: its certificate has each of them
	there=" $(names_in $1/chain.pem) "
	for n in $2; do case $there in *" $n "*) ;; *) return 1 ;; esac done
}
field() { tr -d '\n' <$w/body | sed -n 's/.*'"$1"'" *: *"\([^"]*\)".*/\1/p'; } # of JSON
ask() { # whether the server has moved the window; if it cannot say, nothing is urgent
	[ "$identity_certificate" ] && (exchange GET /api/v1/device) || return 0
	[ "$(field serial | tr a-f A-F | sed 's/^0*//')" = "$(x509 $live/chain.pem -serial | sed 's/.*=0*//')" ] || return 0
	when "$(field 'renewal" *: *{[^}]*"start')" && from=$epoch && when "$(field 'renewal" *: *{[^}]*"end')" || return 0
	[ $from,$epoch != $start,$end ] || return 0
	start=$from end=$epoch
	draw
	remember $live
}
request() { # NAMES: durable before it leaves
	[ "$(cat pending/wish)" != "$key_kind $1" ] || return 0
	discard pending
	rm -rf .new && mkdir .new || disk
	san=
	for n in $1; do case $n in *[!0-9.]*) san=$san,DNS:$n ;; *) san=$san,IP:$n ;; esac done
	printf '%s\n' [req] distinguished_name=dn ${san:+req_extensions=ext} [dn] [ext] ${san:+subjectAltName=${san#,}} >$w/cnf
	case $key_kind in rsa*) kind=rsa:2048 ;; *) kind='ec -pkeyopt ec_paramgen_curve:P-256' ;; esac
	openssl req -new -newkey $kind -nodes -keyout .new/key.pem -config $w/cnf -subj / -outform DER -out $w/csr &&
		openssl base64 -in $w/csr -out .new/csr && echo "$key_kind $1" >.new/wish && sync && mv .new pending && sync || disk
}
unpack() { # FILE: the certificates in an EST answer
	said="$status $(header certmint-code): $(head -n 1 $w/body | cut -c 1-300)"
	case $status in
	200) ;;
	202 | 408 | 429 | 5*)
		header retry-after | tr -cd 0-9 | cut -c 1-5 >$w/retry
		die 3 "the server says: later ($said)" ;;
	*)
		discard pending # the same CSR would get the same answer
		die 4 "the server refuses ($said)" ;;
	esac
	tr -d ' \n' <$w/body | openssl base64 -d -A | openssl pkcs7 -inform DER -print_certs | sed -n '/^-----BEGIN/,/^-----END/p' >$1
	[ -s $1 ] || die 5 'the answer holds no certificate'
}
certify() { # makes .new, to be adopted
	exchange GET $est/cacerts
	unpack $w/cas
	wished=$names operation=simpleenroll
	[ -z "$live" ] || [ "$names" ] || wished=$(names_in $live/chain.pem) operation=simplereenroll
	request "$wished"
	exchange POST $est/$operation pending/csr
	case $operation,$status in *ree*,40[34]) # other names now, or nothing to renew
		wished=
		request ''
		exchange POST $est/simpleenroll pending/csr ;;
	esac
	unpack $w/leaf
	window=$(header certmint-renewal-window) start=0 end=0 proved=0
	! when "${window%/*}" || start=$epoch
	! when "${window#*/}" || end=$epoch
	rm -rf .new && mkdir .new && cp pending/key.pem .new/key.pem && cp $w/leaf .new/chain.pem || disk
	is_pair .new && covered .new "$wished" && dates_of $w/leaf || {
		discard pending
		die 5 "the certificate is not for our key and ${wished:-names}"
	}
	build_chain
	draw
	cat .new/key.pem .new/chain.pem >.new/pair.pem && remember .new || disk
}
build_chain() { # without the root; each is verified under the next, at $now
	awk "/BEGIN/{n++} n<17{print >\"$w/ca\" n}" $w/cas
	below=$w/leaf purpose='-purpose sslserver'
	while n=0; do
		until [ $((n += 1)) -gt 16 ] || openssl verify -partial_chain -attime $now $purpose -trusted $w/ca$n $below; do :; done >/dev/null
		[ $n -le 16 ] || break
		purpose=
		[ "$(x509 $w/ca$n -subject_hash)" != "$(x509 $w/ca$n -issuer_hash)" ] || break
		cat $w/ca$n >>.new/chain.pem
		mv $w/ca$n $w/below # so that it is taken once
		below=$w/below
	done
	[ -z "$purpose" ] || die 5 "no CA vouches for the certificate at $(shown $now)"
}
renew() { # [now]
	lock
	find_live
	# What a power cut left, and versions that never were live:
	rm -rf .new .gone .stale ../.live
	[ -z "$live" ] || for n in $(numbers); do [ $n -le $live ] || discard $n; done
	tell_time
	if [ "$live" ] && [ $# = 0 ]; then
		recall $live
		[ $proved = 1 ] || [ $now -gt $not_after ] || prove $live
		[ $now -ge $renew_at ] || ask
		if [ $now -lt $renew_at ] && covered $live "$names"; then
			report 'not due'
			return
		fi
	fi
	# What the router did not serve is tried again first.
	if [ $# = 0 ] && is_pair failed && recall failed && [ $now -lt $renew_at ] && covered failed "$names"; then
		adopt failed
	else
		certify
		adopt .new
	fi
	point $new
	prove $new
	report installed
}
report() {
	echo $renew_at >$w/next
	say "$1: valid until $(shown $not_after), next renewal at $(shown $renew_at)"
}
run() { # an attempt is a process of its own, and no signal interrupts it
	failures=0 delay=$(dice 60) # not the whole street at once
	find_live
	[ "$live" ] || delay=0
	while :; do
		sleep $delay >/dev/null 4>&- &
		child=$!
		[ "$woken" ] || wait $child
		[ -z "$woken" ] || kill -9 $child
		child= woken=
		rm -f $w/retry $w/next
		(trap unlock EXIT && trap 'exit 143' TERM INT && configure && renew)
		if [ -s $w/next ]; then
			failures=0 poll=$((10800 + $(dice 10800))) delay=$(($(cat $w/next) - $(date -u +%s)))
			[ $delay -gt 0 ] || delay=1
			[ $delay -lt $poll ] && [ $(date -u +%s) -ge $BUILD_DATE ] || delay=$poll
		else
			delay=$((60 + $(dice $((failures < 8 ? 120 << failures : 21600))))) failures=$((failures + 1))
			asked=$(cat $w/retry)
			[ ${asked:-0} -le $delay ] || delay=$((asked + $(dice $((asked / 10)))))
			say "trying again in $delay s"
		fi
	done
}
status() {
	find_live
	[ "$live" ] || die 1 'nothing is installed'
	recall $live
	report "$(names_in $live/chain.pem)"
	now=$(date -u +%s)
	[ $now -ge $not_before ] && [ $now -le $not_after ] || die 1 'it is not valid now'
}
unlock() {
	[ -z "$child" ] || kill -9 $child # TERM is lost after a fork
	[ -z "$locked" ] || rm -rf ../lock
}

set -fu
umask 077
exec 4>&2
command=${1-} config=${3-} child= locked= woken= clock_lost= live=
case $command,${2-} in
--help*) echo "$USAGE" && exit ;;
enrol,--config | renew,--config | run,--config | status,--config) ;;
*) die 2 "$USAGE" ;;
esac
case $config in /*) ;; *) config=$PWD/$config ;; esac
configure
w=$(mktemp -d) && mkdir $w/none || die 8 'there is no temporary folder'
# openssl trusts the system's roots beside -CAfile, unless they are elsewhere.
export LC_ALL=C SSL_CERT_DIR=$w/none SSL_CERT_FILE=/dev/null
trap 'unlock; rm -rf $w' EXIT
trap 'exit 143' TERM INT
exec 2>$w/error
mkdir -p $service_folder/versions && cd $service_folder/versions || disk
case $command in
enrol) renew now ;;
run) trap woken=yes HUP && run ;;
*) $command ;;
esac

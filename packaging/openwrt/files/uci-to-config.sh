# uci-to-config.sh: the UCI section certmint-agent.main as the agent's KEY=value file.
#
# It is sourced by the init script, after /lib/functions.sh. The agent itself judges the values and
# refuses what it does not know; here nothing is interpreted. Secrets are files that UCI names.

CERTMINT_KEYS='server label ca_file service_folder identity_certificate identity_key names key_kind
reload_command check_address check_name check_timeout_s owner_username owner_password_file'

uci_to_config() { # FILE: written beside and renamed, so that a power cut leaves a whole one
	local key value
	mkdir -p "${1%/*}"
	(
		umask 077
		config_load certmint-agent
		for key in $CERTMINT_KEYS; do
			config_get value main "$key"
			[ -z "$value" ] || printf '%s=%s\n' "$key" "$value"
		done >"$1.new"
	) && mv "$1.new" "$1"
}

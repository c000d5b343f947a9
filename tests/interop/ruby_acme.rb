# A client over ruby's `acme-client` gem, run by the system's own ruby.
#
# `ruby_acme.rb VERB FOLDER DIRECTORY` keeps account, key and chain in FOLDER, and is told the rest in
# the environment. Debian's version of the gem knows no external account bindings.

require 'acme-client'
require 'json'
require 'net/http'
require 'openssl'

VERB, FOLDER, DIRECTORY = ARGV
ASKED = JSON.parse(ENV.fetch('ASKED'))

def new_key(kind)
  return OpenSSL::PKey::RSA.new(2048) if kind == 'rsa'

  # The gem leaves zeros at the beginning of a coordinate out (RFC 7518 6.2.1.2 keeps them).
  loop do
    key = OpenSSL::PKey::EC.generate('prime256v1')
    point = key.public_key.to_octet_string(:uncompressed)
    return key unless point[1] == "\0" || point[33] == "\0"
  end
end

def opened
  file = File.join(FOLDER, 'account.pem')
  is_new = !File.exist?(file)
  File.write(file, new_key(ASKED['key']).to_pem) if is_new
  client = Acme::Client.new(
    private_key: OpenSSL::PKey.read(File.read(file)), directory: DIRECTORY,
    connection_options: { ssl: { ca_file: ASKED['ca_file'] } }
  )
  client.new_account(contact: "mailto:#{ASKED['mail']}", terms_of_service_agreed: true) if is_new
  client
end

def publish(found)
  if ASKED['challenge'] == 'http-01'
    challenge = found.http
    File.write(File.join(ASKED['web'], challenge.token), challenge.file_content)
  else
    challenge = found.dns
    host = "#{challenge.record_name}.#{found.domain}."
    record = { host: host, value: challenge.record_content }
    Net::HTTP.post(URI(ASKED['txt']), record.to_json).value
  end
  challenge
end

def settle(thing, *waiting)
  100.times do
    return thing unless waiting.include?(thing.status)

    sleep 0.1
    thing.reload
  end
  raise "it stays #{thing.status}"
end

def issue
  order = opened.new_order(identifiers: ASKED['names'])
  challenges = order.authorizations.map { |each| publish(each) }
  challenges.each do |challenge|
    challenge.request_validation
    settle(challenge, 'pending', 'processing')
    raise challenge.error.to_s unless challenge.status == 'valid'
  end
  key = new_key(ASKED['key'])
  order.reload
  order.finalize(csr: Acme::Client::CertificateRequest.new(private_key: key, names: ASKED['names']))
  settle(order, 'processing')
  File.write(File.join(FOLDER, 'chain.pem'), order.certificate)
end

def revoke
  leaf = OpenSSL::X509::Certificate.new(File.read(File.join(FOLDER, 'chain.pem')))
  opened.revoke(certificate: leaf, reason: 4)
end

def newkey
  made = new_key(ASKED['key'])
  opened.account_key_change(new_private_key: made)
  File.write(File.join(FOLDER, 'account.pem'), made.to_pem)
end

Dir.mkdir(FOLDER) unless Dir.exist?(FOLDER)
{ 'issue' => :issue, 'revoke' => :revoke, 'newkey' => :newkey }.fetch(VERB).then { |verb| send(verb) }

"""newAuthz, authorizations and challenges (RFC 8555 7.4.1, 7.5)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from certmint.doors.acme import fields, views
from certmint.doors.acme.problems import ACMEProblem
from certmint.doors.acme.requests import Call
from certmint.doors.acme.services import Services, Validators, json_answer, link
from certmint.doors.http import Answer
from certmint.enrolment.acme import attesting, authorizations, challenges
from certmint.enrolment.acme.nonces import BadNonce
from certmint.model.acme import (
    Authorization,
    AuthorizationState,
    ChallengeState,
    ChallengeType,
)
from certmint.model.errors import WrongState
from certmint.registry import reads

RETRY_S = "3"


class Authorizations:
    """Routes of authorizations and their challenges."""

    def __init__(self, on: Services, validators: Validators) -> None:
        self._on = on
        self._validators = validators

    def new(self, call: Call) -> Answer:
        """newAuthz: prove an identifier before any order."""
        identifier, subdomains = fields.identifier(call.payload())
        made, is_new = authorizations.new_authorization(
            call.db, call.directory, call.signer, identifier, subdomains=subdomains,
            now=call.now, random_bytes=self._on.random_bytes, limits=self._on.limits,
        )  # fmt: skip
        if is_new:
            self.foresee(call, [made.id])
        answer = self._view(call, self._found(call, made.id), 201 if is_new else 200)
        answer.add("Location", call.urls("authz", made.id))  # of the one that is there, too
        return answer

    def one(self, call: Call) -> Answer:
        """Read an authorization, or give it up (7.5.2)."""
        found = self._found(call, call.params["authz"])
        if call.signed.payload is not None:
            if call.payload().get("status") != "deactivated":
                raise ACMEProblem("malformed", "an authorization can only be deactivated")
            found = challenges.deactivate(call.db, call.signer, found, call.now)
        return self._view(call, found, 200)

    def challenge(self, call: Call) -> Answer:
        """Read a challenge, or answer it (7.5.1)."""
        account, challenge_id = call.signer, call.params["challenge"]
        if call.signed.payload is not None:
            self._answer(call, challenge_id)
        with call.db.read() as tx:
            challenge = reads.acme_challenge_alone(tx, account.id, challenge_id)
        if challenge is None:
            raise ACMEProblem("malformed", "there is no such challenge", 404)
        if challenge.state is ChallengeState.PENDING and self._validators.is_looking(challenge_id):
            challenge = replace(challenge, state=ChallengeState.PROCESSING)
        answer = json_answer(views.challenge(challenge, call.urls, call.place))
        link(answer, call.urls("authz", challenge.authorization_id), "up")
        if challenge.state is ChallengeState.PROCESSING:
            answer.add("Retry-After", RETRY_S)
        return answer

    def _answer(self, call: Call, challenge_id: str) -> None:
        """Judge an attestation at once; look at the network for everything else."""
        payload, account, limits = call.payload(), call.signer, self._on.limits
        if "attObj" in payload:
            attestation = fields.octets(payload, "attObj")
            sent = attesting.Answer(call.directory, account, challenge_id, attestation)
            if attesting.answer(call.db, sent, call.now, limits):
                return
        # An embedded database is this node's alone: what is over in a moment is written once, at
        # its end. Where there are several nodes, the one that looks says so first.
        if call.db.in_fibre:
            call.spending.check()
            taken = challenges.answered(call.db, account, challenge_id, call.now, limits)
        else:
            taken = challenges.begin(call.db, account, challenge_id, call.now, limits)
        if taken is not None:
            self._validate(call, taken)

    def _validate(self, call: Call, taken: challenges.Taken) -> None:
        replayed: list[BadNonce] = []

        def validate() -> None:
            try:
                challenges.validate(
                    call.db, call.signer, taken, call.place, self._on.network, self._on.clock(),
                    self._on.limits,
                )  # fmt: skip
            except BadNonce as refusal:  # another node was asked the same
                replayed.append(refusal)

        def mark() -> None:
            if taken.challenge.state is ChallengeState.PENDING:
                with suppress(WrongState):
                    taken.mark(call.db, call.now)

        self._validators.look(taken.challenge.id, validate, mark)
        if replayed:
            raise replayed[0]

    def foresee(self, call: Call, ids: Sequence[str]) -> bool:
        """Look for persistent records at once, where the directory has that challenge."""
        if ChallengeType.DNS_PERSIST_01 not in call.directory.challenges:
            return False
        with call.db.read() as tx:
            found = reads.acme_authorizations(tx, call.signer.id, ids)
        pending = [e for e in found.values() if e.state is AuthorizationState.PENDING]
        if pending:
            foresee = partial(
                challenges.foresee, self._on.db, call.signer, pending, call.place,
                self._on.network, self._on.clock(),
            )  # fmt: skip
            self._validators.look(pending[0].id, foresee)
        return bool(pending)

    def _found(self, call: Call, authorization_id: str) -> Authorization:
        with call.db.read() as tx:
            found = reads.acme_authorization(tx, call.signer.id, authorization_id)
        if found is None:
            raise ACMEProblem("malformed", "there is no such authorization", 404)
        return found

    def _view(self, call: Call, found: Authorization, status: int) -> Answer:
        shown = views.authorization(found, call.urls, call.place, call.now)
        answer = json_answer(shown, status)
        if found.state is AuthorizationState.PENDING:
            answer.add("Retry-After", RETRY_S)
        return answer

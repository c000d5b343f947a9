"""Operations on manufacturers, operators, tokens, approvals."""

from collections.abc import Sequence

from certmint.client.answers import Approval, Manufacturer, Myself, NewToken, Operator, Token
from certmint.client.calls import Calls, path, said
from certmint.client.pages import Listing
from certmint.client.transport import Request


class People(Calls):
    def show_self(self) -> Myself:
        """Whose token this is, and what it may do."""
        return self._show(Myself, "/self")

    def show_metrics(self) -> str:
        """The node's numbers for Prometheus; for the installation's own operators."""
        answer = self._transport.call(Request("GET", "/metrics", is_repeatable=True))
        return answer.body.decode()

    def list_manufacturers(self) -> Listing[Manufacturer]:
        """The operator's own; every one for the installation's operators."""
        return self._list(Manufacturer, "/manufacturers")

    def show_manufacturer(self, slug: str) -> Manufacturer:
        return self._show(Manufacturer, path("manufacturers", slug))

    def create_manufacturer(self, slug: str, subject: str) -> Manufacturer:
        """Add a tenant; `subject` such as `C=US, O=Example Router Inc`."""
        return self._make(Manufacturer, "/manufacturers", {"slug": slug, "subject": subject})

    def list_operators(self) -> Listing[Operator]:
        return self._list(Operator, "/operators")

    def show_operator(self, operator_id: str) -> Operator:
        return self._show(Operator, path("operators", operator_id))

    def create_operator(self, name: str, role: str) -> Operator:
        """An operator without a token: `create_token` gives one."""
        return self._make(Operator, "/operators", {"name": name, "role": role})

    def change_operator(
        self, operator: Operator, *, role: str | None = None, disabled: bool | None = None
    ) -> Operator:
        """Another role, or shut out; `operator` as `show_operator` read it."""
        where = path("operators", operator.id)
        return self._change(Operator, where, operator.etag, said(role=role, disabled=disabled))

    def close_sessions(self, operator_id: str) -> int:
        """End every session of an operator; how many there were."""
        where = path("operators", operator_id, "sessions")
        answer = self._transport.call(Request("DELETE", where, is_repeatable=True))
        return int(answer.json["sessions"])

    def list_tokens(self, operator_id: str) -> Listing[Token]:
        return self._list(Token, path("operators", operator_id, "tokens"))

    def create_token(
        self,
        operator_id: str,
        name: str,
        *,
        lifetime_days: int = 90,
        scopes: Sequence[str] | None = None,
    ) -> NewToken:
        """A token for an operator. Its value is in this answer and nowhere else."""
        body = said(
            name=name,
            lifetime_days=lifetime_days,
            scopes=None if scopes is None else list(scopes),
        )
        return self._make(NewToken, path("operators", operator_id, "tokens"), body)

    def revoke_token(self, operator_id: str, token_id: str) -> None:
        self._transport.call(Request("DELETE", path("operators", operator_id, "tokens", token_id)))

    def list_approvals(self, *, state: str | None = None) -> Listing[Approval]:
        """Newest first."""
        return self._list(Approval, "/approvals", state=state)

    def show_approval(self, approval_id: str) -> Approval:
        return self._show(Approval, path("approvals", approval_id))

    def approve(self, approval_id: str) -> Approval:
        """Agree, and have it carried out; whoever asked cannot."""
        return self._make(Approval, path("approvals", approval_id, "approval"))

    def reject(self, approval_id: str) -> Approval:
        return self._make(Approval, path("approvals", approval_id, "rejection"))

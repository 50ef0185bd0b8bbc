"""Every command of `brewline`, at one glance. What a command needs is imported when it runs: `--help` is there at once,
and completion too."""

import os
import signal
import sys
from types import FrameType
from typing import Annotated, Literal

import typer

from cli.signals import SIGNALS, Stopped
from stack.local import LocalError

app = typer.Typer(
    name="brewline",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Brewline on this machine: run it, look into it, act on it, and develop it further.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done · 1 not well, or refused · 2 wrongly asked · 130 interrupted.  "
    "Completion: `brewline --install-completion`",
)
make = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Make something new in this repository.")
app.add_typer(make, name="new", rich_help_panel="Develop")

RUN, LOOK, ACT, DEVELOP = "Run", "Look", "Act", "Develop"
Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Most = Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")]
OrderId = Annotated[str, typer.Argument(metavar="ORDER", help="Its id, or `last`.")]
Level = Literal["debug", "info", "warning", "error"]


def leave(code: int) -> None:
    raise typer.Exit(code)


# --- run ------------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=RUN)
def run() -> None:
    """Start everything, place one order, show what came of it; Ctrl-C stops it all."""
    from cli import running

    try:
        leave(running.run())
    except Stopped:  # as it was meant to end
        print("\nBrewline is stopped.")


@app.command(rich_help_panel=RUN)
def up() -> None:
    """Start everything in the background; again from the start when something died."""
    from cli import running

    leave(running.up())


@app.command(rich_help_panel=RUN)
def down() -> None:
    """Stop everything."""
    from cli import running

    leave(running.down())


@app.command(rich_help_panel=RUN)
def status(as_json: Json = False) -> None:
    """What runs, and whether it is ready."""
    from cli import running

    leave(running.status(as_json=as_json))


# --- look -----------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=LOOK, epilog="Example: `brewline orders --status pending_payment`")
def orders(
    status: Annotated[str | None, typer.Option(help="pending_payment, confirmed, preparation, …")] = None,
    limit: Most = 20,
    as_json: Json = False,
) -> None:
    """The newest orders."""
    from cli import orders

    leave(orders.newest(status=status, most=limit, as_json=as_json))


@app.command(rich_help_panel=LOOK)
def watch(as_json: Json = False) -> None:
    """Orders as they move, live, until Ctrl-C; with --json a line an event."""
    from cli import orders

    leave(orders.watch(as_json=as_json))


@app.command(rich_help_panel=LOOK, epilog="Example: `brewline why last`")
def why(
    order: OrderId,
    logs: Annotated[bool, typer.Option(help="With events and log lines of its traces.")] = True,
    as_json: Json = False,
) -> None:
    """Why an order is as it is: steps, money, messages, events and log lines in one column of time."""
    from cli import why

    leave(why.why(order, logs=logs, as_json=as_json))


@app.command(rich_help_panel=LOOK, epilog="Example: `brewline logs --service payment --level warning --follow`")
def logs(
    *,
    service: Annotated[str, typer.Option("--service", "-s", help="Of one alone: order, payment, sandbox, …")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that come, until Ctrl-C.")] = False,
    sidecars: Annotated[bool, typer.Option("--sidecars", help="Also of sidecars, and what they stand on.")] = False,
    level: Annotated[Level, typer.Option(help="And above.")] = "info",
    trace: Annotated[str, typer.Option(metavar="TRACE_ID", help="Of one trace alone.")] = "",
    last: Annotated[int, typer.Option("--lines", "-n", min=0, help="The last so many; 0: all.")] = 100,
    as_json: Json = False,
) -> None:
    """The logs of everything as one stream in order of time, coloured by service."""
    from cli import logs
    from cli.machine import LOGS

    leave(
        logs.show(
            LOGS,
            service=service,
            sidecars=sidecars,
            level=level,
            trace=trace,
            last=last,
            follow=follow,
            as_json=as_json,
        )
    )


@app.command(rich_help_panel=LOOK, epilog="Example: `brewline sagas --status failed`")
def sagas(
    status: Annotated[Literal["running", "completed", "failed"] | None, typer.Option()] = None,
    retry: Annotated[str, typer.Option(metavar="SAGA", help="Have its failed step tried again.")] = "",
    limit: Most = 20,
    as_json: Json = False,
) -> None:
    """The stories that are told step by step, of order and notification."""
    from cli import sagas

    leave(sagas.retry(retry, as_json=as_json) if retry else sagas.listed(status=status, most=limit, as_json=as_json))


@app.command(rich_help_panel=LOOK)
def dead_letters(limit: Most = 20, as_json: Json = False) -> None:
    """Events that an app could not process."""
    from cli import letters

    leave(letters.listed(most=limit, as_json=as_json))


@app.command(rich_help_panel=LOOK)
def doctor(as_json: Json = False) -> None:
    """Look at machine, ports, versions, components, policies and what runs; each fault with its mend."""
    from cli import doctor

    leave(doctor.doctor(as_json=as_json))


# --- act ------------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=ACT, epilog="Example: `brewline order --card tok_declined`")
def order(
    sku: Annotated[str, typer.Argument()] = "latte",
    variation: Annotated[str, typer.Argument()] = "vanilla",
    *,
    quantity: Annotated[int, typer.Option("--quantity", "-q", min=1)] = 1,
    where: Annotated[Literal["in-store", "take-away", "delivery"], typer.Option()] = "take-away",
    card: Annotated[str, typer.Option(help="tok_ok, tok_declined, tok_lost_reply, tok_flaky, …")] = "tok_ok",
    as_json: Json = False,
) -> None:
    """Place an order, and show what came of it."""
    from cli import machine, sample

    here = machine.apps()
    body = sample.order(sku=sku, variation=variation, quantity=quantity, where=where, card=card)
    leave(sample.show(orders=here["order-service"].url, sandbox=here["sandbox"].url, body=body, as_json=as_json))


@app.command(rich_help_panel=ACT, epilog="Example: `brewline load --rate 50 --for 30`")
def load(
    rate: Annotated[float, typer.Option(min=0.1, help="Orders a second.")] = 10,
    seconds: Annotated[float, typer.Option("--for", min=0.1, help="Seconds.")] = 10,
    card: Annotated[str, typer.Option(help="As of `order`.")] = "tok_ok",
    as_json: Json = False,
) -> None:
    """Place so many orders a second for so long, and sum up."""
    from cli import load

    leave(load.load(rate=rate, seconds=seconds, card=card, as_json=as_json))


@app.command(rich_help_panel=ACT, epilog="Example: `brewline replay --all`")
def replay(
    letters: Annotated[list[str] | None, typer.Argument(metavar="[LETTER]…", help="Ids of dead letters.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    as_json: Json = False,
) -> None:
    """Deliver dead letters again, to the app that could not process them."""
    from cli import letters as dead

    if bool(letters) == every:
        raise typer.BadParameter("ids of dead letters, or --all")
    leave(dead.replay(letters or [], every=every, as_json=as_json))


# --- develop --------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=DEVELOP, epilog='Example: `eval "$(brewline env order-service)"`')
def env(
    app_id: Annotated[str, typer.Argument(metavar="[APP]", help="All that this app was given, and its APP_PID.")] = "",
    as_json: Json = False,
) -> None:
    """The tokens of sidecars and apps, for a shell to eval."""
    from cli import running

    leave(running.env(app_id, as_json=as_json))


@app.command(
    rich_help_panel=DEVELOP,
    epilog='Example: `curl -H "Authorization: Bearer $(brewline token --role staff)" localhost:8001/api/v1/orders`',
)
def token(
    role: Annotated[Literal["user", "staff", "admin"], typer.Option()] = "user",
    sub: Annotated[str, typer.Option(help="Whom it speaks of; dev-ROLE where it is left out.")] = "",
    tenant: Annotated[str, typer.Option()] = "",
    tenant_name: Annotated[str, typer.Option(help="The tenant's name for people.")] = "",
) -> None:
    """A bearer token for development, alone on standard output."""
    from cli.vault import VAR
    from sandbox.token import main as print_token

    os.environ.setdefault("SANDBOX_DATA_DIR", str(VAR / "data/sandbox"))  # where this run's sandbox has its key
    asked = {"--role": role, "--sub": sub, "--tenant": tenant, "--tenant-name": tenant_name}
    print_token([word for option, value in asked.items() if value for word in (option, value)])


@make.command("service", epilog="Example: `brewline new service loyalty`")
def new_service(
    name: Annotated[str, typer.Argument(help="`loyalty` is loyalty-service, in services/loyalty.")],
) -> None:
    """A service in the house's shape that hears orders: code, tests, sidecar, scopes, manifest."""
    from cli import new_service
    from cli.vault import ROOT

    leave(new_service.new_service(ROOT, name))


# --- the process ----------------------------------------------------------------------------------------------------


def main() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    for number in SIGNALS:
        signal.signal(number, stop)
    try:
        app()
    except Stopped:
        sys.exit(130)
    except LocalError as error:
        print(f"Brewline: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # `brewline logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()

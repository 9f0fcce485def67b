"""Every process of the embedded platform: what runs, with which settings. Starts nothing itself."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from betting.embedded import exits, ports_plan, postgres, readiness, valkey
from betting.embedded.folder import DataFolder
from betting.embedded.ports import HOST
from betting.runtime.redis_link import BOOT_ID_SETTING
from betting.runtime.settings import EXIT_CONFIGURATION, variable
from betting.runtime.variables import VARIABLES
from betting.supervision.process import ProcessSpec
from betting.supervision.spawning import BOOT_ID, FOLDER_VARIABLE, Command

DRAIN_TIMEOUT_S = 5
STOP_TIMEOUT_S = 8.0
SHARD_COUNT = 16
OPERATOR_EMAIL = "operator@betting.local"
# What every screen says: this platform always turns BETTING_SANDBOX_MONEY on.
PLAY_MONEY = "play money: anybody may deposit any amount, nothing is paid in or out"


@dataclass(frozen=True)
class Service:
    """A service: the module that runs it and how many instances of it there are."""

    name: str
    module: str
    instances: int = 1

    def instance_names(self) -> list[str]:
        """`wallet-service`, or `bet-service-1`, `bet-service-2` where there are several."""
        if self.instances == 1:
            return [self.name]
        return [f"{self.name}-{number}" for number in range(1, self.instances + 1)]


# In the order in which a newcomer reads them; they start side by side.
SERVICES = (
    Service("event-service", "betting.events"),
    Service("odds-service", "betting.odds"),
    Service("user-service", "betting.users"),
    Service("wallet-service", "betting.wallet"),
    Service("bet-service", "betting.bets", instances=2),
    Service("settlement-service", "betting.settlement"),
    Service("notification-service", "betting.notifications"),
    Service("health-monitor", "betting.health"),
    Service("api-gateway", "betting.gateway"),
    Service("season-replay", "betting.feeds.replay"),
    Service("healer", "betting_operator.healer"),
)
HEALER = "healer"
FEED = "season-replay"
GATEWAY = "api-gateway"
UNHEALED = tuple(service for service in SERVICES if service.name != HEALER)
# Runs only where there is a key for it.
THE_ODDS_API = Service("the-odds-api", "betting.feeds.the_odds_api")
ODDS_API_KEY_VARIABLE = "BETTING_ODDS_API_KEY"
BET_SERVICES = tuple(name for each in SERVICES if each.name == "bet-service" for name in each.instance_names())
# The doors close first, so that nothing new comes in while the rest finishes.
ENTRY_POINTS = ("api-gateway", "season-replay", THE_ODDS_API.name)
# Longer than the healer's own worst tick; nobody else ends a healer that hangs.
HEALER_SILENT_S = 5.0
USERS = "user-service"
MONITOR = "health-monitor"
VALKEY = "valkey"


def services_for(environment: Mapping[str, str]) -> tuple[Service, ...]:
    """What runs in an environment: all services, and the feed of The Odds API where its key is set."""
    has_key = bool(environment.get(ODDS_API_KEY_VARIABLE, "").strip())
    return (*SERVICES, THE_ODDS_API) if has_key else SERVICES


@dataclass(frozen=True)
class Topology:
    """One embedded platform: its folder, its ports, its season."""

    folder: DataFolder
    ports: Mapping[str, int]
    services: tuple[Service, ...] = SERVICES
    extra: Mapping[str, str] = field(default_factory=dict)
    healer_host: str = HOST  # by which the healer reaches everybody: a quiet run makes that path lossy
    shard_count: int = SHARD_COUNT

    @property
    def postgres(self) -> postgres.PostgresSpec:
        """Folder and port of the Postgres of this platform."""
        return postgres.PostgresSpec(self.folder.postgres, self.ports[ports_plan.POSTGRES])

    def valkey(self, name: str) -> valkey.ValkeySpec:
        """One Valkey. It boots as a replica of the other; `redis_keeper` says who becomes primary."""
        other = next(each for each in ports_plan.VALKEYS if each != name)
        return valkey.ValkeySpec(
            folder=self.folder.valkey(name),
            port=self.ports[name],
            password_file=self.folder.valkey_password,
            replica_of_port=self.ports[other],
        )

    def redis_url(self) -> str:
        """Where services find Redis: both nodes, of which one is primary."""
        first, *others = ports_plan.VALKEYS
        more = "".join(f",{HOST}:{self.ports[name]}" for name in others)
        plain = self.valkey(first).url()
        return plain.replace(f":{self.ports[first]}/", f":{self.ports[first]}{more}/")

    def databases(self) -> list[ProcessSpec]:
        """The process specifications of Postgres and both Valkeys, in the order they are started."""
        return [self._postgres_process(), *(self._valkey_process(name) for name in ports_plan.VALKEYS)]

    def service_processes(self) -> list[ProcessSpec]:
        """The process specifications of every instance of every service."""
        return [
            self._service_process(each.name, each.module, name)
            for each in self.services
            for name in each.instance_names()
        ]

    def address(self, instance: str) -> str:
        """host:port of an instance's gRPC server."""
        return f"{HOST}:{self.ports[ports_plan.grpc_name(instance)]}"

    def health_address(self, instance: str) -> str:
        """host:port of an instance's health server, which runs on threads of its own."""
        return f"{HOST}:{self.ports[ports_plan.health_name(instance)]}"

    def supervisor_address(self) -> str:
        """host:port of SupervisorService."""
        return f"{HOST}:{self.ports[ports_plan.SUPERVISOR]}"

    def http_address(self) -> str:
        """host:port of the gateway's HTTP server."""
        return f"{HOST}:{self.ports[ports_plan.HTTP]}"

    def environment(self, instance: str) -> dict[str, str]:
        """The environment variables (BETTING_*) of one service process."""
        return {
            FOLDER_VARIABLE: str(self.folder.path),
            "BETTING_INSTANCE": instance,
            "BETTING_GRPC_ADDRESS": self.address(instance),
            "BETTING_HEALTH_ADDRESS": self.health_address(instance),
            "BETTING_METRICS_ADDRESS": f"{HOST}:{self.ports[ports_plan.metrics_name(instance)]}",
            "BETTING_HTTP_ADDRESS": self.http_address(),
            "BETTING_POSTGRES_DSN": self.postgres.dsn(),
            "BETTING_REDIS_URL": self.redis_url(),
            "BETTING_INTERNAL_SECRET": self.folder.internal_secret(),
            "BETTING_ADVERTISED_ADDRESS": "",
            "BETTING_DRAIN_DELAY": "0",
            "BETTING_DRAIN_TIMEOUT": str(DRAIN_TIMEOUT_S),
            "BETTING_SHARD_COUNT": str(self.shard_count),
            "BETTING_SANDBOX_MONEY": "true",
            "BETTING_FAULT_HOOKS": "true",
            **self._peers(),
            **self._own(instance),
            **self.extra,
            # Children inherit our environment; the key is for its feed alone.
            **({} if instance == THE_ODDS_API.name else {ODDS_API_KEY_VARIABLE: ""}),
        }

    def overridden(self, environment: Mapping[str, str]) -> list[str]:
        """The variables of an environment that none of the services here gets as they are, in order."""
        own = [self.environment(name) for each in self.services for name in each.instance_names()]
        set_here = {name for each in own for name in each}
        return sorted(
            name
            for name in environment.keys() & set_here
            if all(each.get(name, environment[name]) != environment[name] for each in own if name in each)
        )

    def _peers(self) -> dict[str, str]:
        names = [name for each in self.services for name in each.instance_names() if name not in BET_SERVICES]
        found = {variable(name.replace("-", "_")): self.address(name) for name in names}
        return {name: address for name, address in found.items() if name in VARIABLES}  # some are asked by nobody

    def _own(self, instance: str) -> dict[str, str]:
        """The settings of one service that no other has."""
        if instance == USERS:
            password = self.folder.operator_password()
            return {"BETTING_OPERATOR_EMAIL": OPERATOR_EMAIL, "BETTING_OPERATOR_PASSWORD": password}
        if instance == MONITOR:  # it finds bet-service in the directory and the peers by their addresses
            names = {name for each in self.services for name in each.instance_names()}
            watched = (f"{name}={self.address(name)}" for name in (*ENTRY_POINTS, HEALER) if name in names)
            return {"BETTING_MONITORED": ",".join(watched)}
        if instance == HEALER:
            names = {name for each in self.services for name in each.instance_names()}
            return {
                "BETTING_SUPERVISOR": self._by_healer(self.supervisor_address()),
                "BETTING_POSTGRES_DSN": self._by_healer(self.postgres.dsn()),
                "BETTING_ODDS_SERVICE": self._by_healer(self.address("odds-service"))
                if "odds-service" in names
                else "",
                "BETTING_FLIGHT_FOLDER": str(self.folder.flight),
            }
        return {}

    def _by_healer(self, address: str) -> str:
        return address.replace(HOST, self.healer_host)

    def _service_process(self, service: str, module: str, instance: str) -> ProcessSpec:
        def command() -> Command:
            # -P: the data folder is the working directory, and must not become a place to import from.
            argv = (sys.executable, "-P", "-m", "betting.runtime.launch", module)
            return Command(argv, self.folder.path, self.environment(instance))

        return ProcessSpec(
            name=instance,
            command=command,
            is_ready=readiness.grpc_serving(self.address(instance)),
            log=self.folder.log(instance),
            stop_timeout_s=STOP_TIMEOUT_S,
            on_exit=exits.reporter(self.postgres.dsn, service, instance) if instance in BET_SERVICES else None,
            workload=service,
            address=self._by_healer(self.address(instance)),
            health_address=self._by_healer(self.health_address(instance)),
            is_alive=readiness.GrpcAlive(self.health_address(instance)),
            killed_when_silent_s=HEALER_SILENT_S if instance == HEALER else None,
            exit_code_of_refusal=EXIT_CONFIGURATION,
        )

    def _postgres_process(self) -> ProcessSpec:
        def command() -> Command:
            postgres.prepare(self.postgres)
            return self.postgres.command()

        return ProcessSpec(
            name=ports_plan.POSTGRES,
            command=command,
            is_ready=readiness.postgres(lambda: self.postgres.dsn("postgres")),
            log=self.folder.log(ports_plan.POSTGRES),
            stop_signal=signal.SIGINT,  # fast shutdown: ends connections, then checkpoints
            stop_timeout_s=30.0,
        )

    def _valkey_process(self, name: str) -> ProcessSpec:
        def command() -> Command:
            valkey.prepare(self.valkey(name))
            plain = self.valkey(name).command()
            argv = (*plain.argv, f"--{BOOT_ID_SETTING}", BOOT_ID)
            return Command(argv, plain.folder, {FOLDER_VARIABLE: str(self.folder.path)})

        answers = readiness.valkey(lambda: self.valkey(name).url())
        return ProcessSpec(
            name=name,
            command=command,
            is_ready=answers,
            log=self.folder.log(name),
            workload=VALKEY,
            address=f"{HOST}:{self.ports[name]}",
            is_alive=answers,
        )

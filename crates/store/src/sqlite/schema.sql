CREATE TABLE incidents (
    id             TEXT PRIMARY KEY,
    revision       INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    state          TEXT NOT NULL,
    severity       INTEGER NOT NULL,
    first_at       INTEGER NOT NULL,
    last_at        INTEGER NOT NULL,
    head           TEXT NOT NULL,
    told           TEXT NOT NULL,
    findings_total INTEGER NOT NULL,
    handled        TEXT,
    changed_at     INTEGER NOT NULL,
    digested       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX incidents_by_time ON incidents (last_at, id);
CREATE INDEX incidents_unended ON incidents (state) WHERE state IN ('open', 'acknowledged');
CREATE INDEX incidents_undigested ON incidents (severity, digested) WHERE severity = 0 AND digested = 0;

CREATE TABLE incident_accounts (
    account  TEXT NOT NULL,
    incident TEXT NOT NULL,
    PRIMARY KEY (account, incident)
) STRICT, WITHOUT ROWID;
CREATE INDEX incident_accounts_by_incident ON incident_accounts (incident);

-- shown: as the incident judges it; null where a later record corrected it.
-- original: as it stood by itself, where that differs.
CREATE TABLE findings (
    key         TEXT PRIMARY KEY,
    incident    TEXT NOT NULL,
    at          INTEGER NOT NULL,
    account     TEXT NOT NULL,
    root_use    TEXT NOT NULL,
    severity    INTEGER NOT NULL,
    rules       TEXT NOT NULL,
    shown       TEXT,
    original    TEXT,
    echo_of     TEXT,
    received_at INTEGER NOT NULL
) STRICT;
CREATE INDEX findings_by_incident ON findings (incident, at, key);
CREATE INDEX findings_by_time ON findings (at, key);
CREATE INDEX findings_by_echo ON findings (echo_of) WHERE echo_of IS NOT NULL;
-- An incident is loaded without its echoes, however many there are; they are counted.
CREATE INDEX findings_kept ON findings (incident) WHERE echo_of IS NULL;
CREATE INDEX findings_echoing ON findings (incident, echo_of, at) WHERE echo_of IS NOT NULL;
CREATE INDEX findings_with_original ON findings (incident) WHERE original IS NOT NULL;

CREATE TABLE past_keys (
    account TEXT NOT NULL,
    key     TEXT NOT NULL,
    PRIMARY KEY (account, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE past_addresses (
    account TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (account, address)
) STRICT, WITHOUT ROWID;

-- in_turn: 1 for the oldest of its thread and destination that has not ended.
-- ready_at: when it can be leased, were it its turn: when due, or when its lease runs out.
CREATE TABLE deliveries (
    number        INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    destination   TEXT NOT NULL,
    thread        TEXT NOT NULL,
    incident      TEXT,
    state         TEXT NOT NULL,
    alert         TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    leased_until  INTEGER,
    attempts      INTEGER NOT NULL,
    last_error    TEXT,
    receipt       TEXT,
    ended_at      INTEGER,
    stands_in_for TEXT,
    in_turn       INTEGER NOT NULL,
    ready_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_ready ON deliveries (destination, ready_at, number) WHERE in_turn = 1;
CREATE INDEX deliveries_in_line ON deliveries (destination, thread, number) WHERE state = 'due';
CREATE INDEX deliveries_owed ON deliveries (created_at) WHERE state = 'due';
CREATE INDEX deliveries_counted ON deliveries (destination, state);
CREATE INDEX deliveries_by_incident ON deliveries (incident);
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE state != 'due';

CREATE TABLE unverified (
    number      INTEGER PRIMARY KEY,
    key         TEXT NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    body        TEXT NOT NULL
) STRICT;
CREATE INDEX unverified_by_time ON unverified (received_at);

CREATE TABLE notes (
    name   TEXT PRIMARY KEY,
    value  TEXT NOT NULL,
    put_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE positions (
    name TEXT PRIMARY KEY,
    mark TEXT NOT NULL
) STRICT, WITHOUT ROWID;

/**
 * What keeps connection strings of subscriptions to the network. libpq, which opens them inside the server, takes parameters that name files
 * of the host: `sslkeylogfile` appends to any file that the server may write, others read keys, certificates and service files.
 * docs/security.md
 *
 * The string is checked before the statement runs, in its text: an event trigger is told no more of it. So the statement has to be sent
 * by itself, with a plain literal; hidden in a function or behind another statement it is refused, whatever it says.
 */

/** Parameters of libpq that name no file. Those that are not here, also ones of later versions, are refused. */
const PARAMETERS = [
  'application_name',
  'channel_binding',
  'client_encoding',
  'connect_timeout',
  'dbname',
  'fallback_application_name',
  'gssencmode',
  'keepalives',
  'keepalives_count',
  'keepalives_idle',
  'keepalives_interval',
  'load_balance_hosts',
  'max_protocol_version',
  'min_protocol_version',
  'options',
  'password',
  'port',
  'require_auth',
  'ssl_max_protocol_version',
  'ssl_min_protocol_version',
  'sslcompression',
  'sslmode',
  'sslnegotiation',
  'sslsni',
  'target_session_attrs',
  'tcp_user_timeout',
  'user',
].join('|');

/** Regular expressions of Postgres's, where a `#` stands for white space as libpq knows it. */
function pattern(text: string): string {
  return text.replaceAll('#', String.raw`[ \t\n\v\f\r]`);
}

/** A host that holds a slash or begins with an @ is a folder of sockets. The CAs of the operating system are no file of anybody's. */
const KEYWORDS = pattern(
  String.raw`^(?:#*(?:(?:host|hostaddr)#*=#*(?:'[^'/@]*'|[^'\s/@]+)|sslrootcert#*=#*system|(?:${PARAMETERS})#*=#*(?:'[^']*'|[^'\s]+))(?=#|$))*#*$`,
);
const URI_PARAMETER = `(?:(?:host|hostaddr)=[^&?%/@]*|sslrootcert=system|(?:${PARAMETERS}|ssl)=[^&?]*)`;
/** A second question mark could be where libpq sees the first. */
const URI = `^postgres(?:ql)?://(?:[^@/?]*@)?[^@/?%]*(?:/[^?]*)?(?:[?]${URI_PARAMETER}(?:&${URI_PARAMETER})*)?$`;

/** White space and simple comments, a command, a name. */
function head(command: string): string {
  return String.raw`(?i)^(?:\s|--[^\n\r]*[\n\r]|/[*][^*/]*[*]/)*${command}\s+subscription\s+(?:"(?:[^"]|"")+"|[^\s"';/]+)\s+`;
}

/** One literal without escapes: what the lexer takes for the string is what the group holds. */
const LITERAL = String.raw`connection\s+'((?:[^'\\]|'')*)'`;
const CREATE = String.raw`${head('create')}${LITERAL}\s+publication\M[^;]*;?\s*$`;
const ALTER = String.raw`${head('alter')}${LITERAL}\s*;?\s*$`;
/** Changes of a subscription that leave its connection as it is. */
const ALTER_REST = String.raw`${head('alter')}(?:enable|disable|set|add|drop|refresh|skip|owner|rename)\M[^;]*;?\s*$`;

/** Longer texts are nobody's connection string. */
const TEXT_BYTES_MAX = 65_536;

const BODY = `DECLARE statement text := current_query(); target text;
  BEGIN
    IF octet_length(statement) <= ${TEXT_BYTES_MAX} THEN
      IF tg_tag = 'ALTER SUBSCRIPTION' AND statement ~ ${quoted(ALTER_REST)} THEN RETURN; END IF;
      target := (regexp_match(statement, CASE tg_tag WHEN 'CREATE SUBSCRIPTION' THEN ${quoted(CREATE)} ELSE ${quoted(ALTER)} END))[1];
    END IF;
    IF target IS NULL THEN
      RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'a subscription is made and changed by a statement of its own',
        HINT = 'send it alone, not from a function or a block, with the connection string as a literal without escapes';
    END IF;
    target := replace(target, '''''', '''');
    IF target !~ ${quoted(URI)} AND target !~ ${quoted(KEYWORDS)} THEN
      RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'the connection string of a subscription names more than a server on the network',
        HINT = 'host, port, user, password, dbname, sslmode, sslrootcert=system and what names no file of this host can be given';
    END IF;
  END`;

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/**
 * Puts an event trigger of ours in the place of one that has its name, whatever that is. As a member of an extension it is in no dump, whose
 * reader could not make it.
 */
export function replaceEventTrigger({ name, definition }: { name: string; definition: string }): string[] {
  return [
    `DO $$BEGIN
      IF EXISTS (SELECT FROM pg_event_trigger e JOIN pg_depend d ON d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid
          WHERE e.evtname = '${name}' AND d.deptype = 'e') THEN ALTER EXTENSION plpgsql DROP EVENT TRIGGER ${name}; END IF;
      DROP EVENT TRIGGER IF EXISTS ${name};
    END$$`,
    `CREATE EVENT TRIGGER ${name} ${definition}`,
    `ALTER EXTENSION plpgsql ADD EVENT TRIGGER ${name}`,
  ];
}

/** For a database that has the schema `pg_atoll`; run as the bootstrap superuser. May run twice. */
export function subscriptionGuardStatements(): string[] {
  return [
    `CREATE OR REPLACE FUNCTION pg_atoll.guard_subscription() RETURNS event_trigger
      LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS ${quoted(BODY)}`,
    ...replaceEventTrigger({
      name: 'pg_atoll_guard_subscription',
      definition: `ON ddl_command_start
        WHEN TAG IN ('CREATE SUBSCRIPTION', 'ALTER SUBSCRIPTION') EXECUTE FUNCTION pg_atoll.guard_subscription()`,
    }),
  ];
}

/** What is written to the audit: who asked for which change where, and what came of it. */
import { isAppError, sensitive, toError } from '../base/index.ts';
import { AUTHORITY_ROLES, findSetting } from '../catalog/index.ts';
import { printStatement, REDACTED, redactStatement, type Statement, withoutStrings } from '../sql/index.ts';
import type { ExecuteContext, SessionIdentity } from './contract.ts';
import type { Core } from './core.ts';

/** What a stream says of itself again and again; no one asked for anything. */
const REPORTS: ReadonlySet<Statement['kind']> = new Set(['report_replication_stream']);

const AUTHORITIES: ReadonlySet<string> = new Set(Object.values(AUTHORITY_ROLES));

/**
 * Runs a statement of ours and tells the audit of it. What is only read is told when it is read by the authority of the system virtual
 * cluster: it is somebody else's.
 */
export async function audited<T>(
  core: Core,
  { statement, context }: { readonly statement: Statement; readonly context: ExecuteContext },
  run: () => Promise<T>,
): Promise<T> {
  const { session } = context;
  const isRead = statement.kind.startsWith('show_') && !AUTHORITIES.has(session.user);
  if (isRead || REPORTS.has(statement.kind) || isPiece(statement)) return run();
  const { clock } = core.options;
  const begunMs = clock.monotonicMs();
  const tell = (outcome: string): void => {
    const text = sensitive(printStatement(redactStatement(withoutSecretSetting(statement))));
    const asked = context.run === undefined ? '' : ' by a schedule';
    const tookMs = Math.round(clock.monotonicMs() - begunMs);
    auditLogger(core, session).info(`${nameOf(session)}${asked}: ${text}: ${outcome} after ${tookMs} ms`);
  };
  try {
    const result = await run();
    tell('done');
    return result;
  } catch (error) {
    const code = isAppError(error) ? error.code : 'internal';
    tell(`failed (${code}: ${sensitive(toError(error).message)})`);
    throw error;
  }
}

/** The beginning and the end of an upload are told, not every piece. */
function isPiece(statement: Statement): boolean {
  return statement.kind === 'alter_file_upload' && statement.action.kind === 'append';
}

/** Whether the value of a setting is a secret is known by its name alone. */
function withoutSecretSetting(statement: Statement): Statement {
  const hidden = { kind: 'string', value: REDACTED } as const;
  const holdsSecret = (name: string) => findSetting(name)?.holds !== undefined;
  if (statement.kind === 'set_cluster_setting')
    return holdsSecret(statement.name) ? { ...statement, value: hidden } : statement;
  if (statement.kind !== 'alter_virtual_cluster' || statement.action.kind !== 'set_cluster_setting')
    return statement;
  const { action } = statement;
  return holdsSecret(action.name) ? { ...statement, action: { ...action, value: hidden } } : statement;
}

/** Tells the audit of a statement that goes on to PostgreSQL, whose answer is not waited for. */
export function auditPassedOn(
  core: Core,
  { session, text }: { session: SessionIdentity; text: string },
): void {
  auditLogger(core, session).info(
    `${nameOf(session)}: ${sensitive(withoutStrings(text))}: passed on to PostgreSQL`,
  );
}

export function auditLogger(
  core: Core,
  { virtualClusterId, virtualClusterName }: Pick<SessionIdentity, 'virtualClusterId' | 'virtualClusterName'>,
) {
  return core.options.logger.for({ virtualClusterId, virtualClusterName, channel: 'audit' });
}

function nameOf({ user, applicationName }: SessionIdentity): string {
  return applicationName === ''
    ? `user ${sensitive(user)}`
    : `user ${sensitive(user)} with ${sensitive(applicationName)}`;
}

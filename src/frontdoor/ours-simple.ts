import { AppError, isAppError, type Logger } from '../base/index.ts';
import type { Column, SessionIdentity } from '../control/index.ts';
import { BACKEND, encodeQuery, encodeReadyForQuery, encodeSync, mapErrorPosition } from '../pg/index.ts';
import {
  changesPrivileges,
  type Located,
  parseStatement,
  type Statement,
  splitStatements,
} from '../sql/index.ts';
import { errorResponse } from './errors.ts';
import type { OwnExecution } from './own-execution.ts';
import { BackendLostError, type Relay } from './relay.ts';
import { encodeResult } from './result-encoder.ts';
import {
  jsonConstant,
  readRowSources,
  replaceRowSources,
  type RowSourceText,
  rowsToJson,
} from './row-source.ts';
import type { RowSource, RowSourceReading } from './row-source.ts';
import { hasTable, runInSession } from './run-in-session.ts';
import type { SessionService } from './service.ts';

/** What a session needs to deal with statements of ours, in either protocol. */
export interface OwnContext {
  readonly relay: Relay;
  readonly execution: OwnExecution;
  readonly service: SessionService;
  readonly session: SessionIdentity;
  readonly logger: Logger;
  /** All texts of Postgres's own statements are shown to the service first: a session in the system VC. */
  readonly isScreened: boolean;
}

/** A stretch of a Query's text: one statement of ours, or as many of Postgres's as stand in a row. */
type Step =
  | { readonly kind: 'own'; readonly statement: Statement; readonly text: string; readonly begin: number }
  | { readonly kind: 'postgres'; readonly text: string; readonly begin: number }
  | { readonly kind: 'row_source'; readonly source: RowSourceText; readonly begin: number };

/**
 * Carries out a Query whose text may hold statements of ours: each stretch in its turn, one ReadyForQuery in the end; the
 * first error ends it. Gives false, having done nothing, when all of it is Postgres's.
 */
export async function runSimpleQuery(context: OwnContext, text: string): Promise<boolean> {
  const { relay } = context;
  try {
    const steps = await plan(context, text);
    if (steps === undefined) return false;
    // A Query ends an unfinished pipeline, and its implicit transaction.
    if (relay.ledger.hasOpenSegment) {
      await relay.exchange({ messages: [encodeSync()], hidden: [BACKEND.readyForQuery] });
    }
    for (const step of steps) {
      if (await runStep(context, step, text)) break;
    }
  } catch (error) {
    if (error instanceof BackendLostError) throw error;
    relay.reply(errorResponse(error, { severity: 'ERROR', logger: context.logger }));
    if (!relay.isBackendLost) await relay.failTransaction();
  }
  try {
    await context.execution.recover();
  } catch (error) {
    // What was asked is answered, and the virtual cluster serves: only the session is over. Whoever waits for the answer is to hear that it succeeded.
    if (isAppError(error, 'database_not_found')) relay.reply(encodeReadyForQuery('I'));
    throw error;
  }
  relay.reply(encodeReadyForQuery(relay.status));
  return true;
}

/** All is parsed before anything runs, as Postgres does. Undefined when nothing is ours. */
async function plan(context: OwnContext, text: string): Promise<Step[] | undefined> {
  const steps: Step[] = [];
  for (const piece of splitStatements(text)) {
    const { begin } = piece;
    const found = positioned(text, begin, () => parseStatement(piece.node));
    if (found !== undefined && !(await isOfTenant(context, found.node))) {
      steps.push({ kind: 'own', statement: found.node, text: piece.node, begin });
      continue;
    }
    await screen(context, piece.node);
    const source = await positionedAsync(text, begin, () => readRowSources(piece.node, readingOf(context)));
    if (source !== undefined) steps.push({ kind: 'row_source', source, begin });
    else appendPostgres(steps, { piece, text });
  }
  return steps.every(({ kind }) => kind === 'postgres') ? undefined : steps;
}

/** Shows the service what it wants to see of Postgres's own statements. @throws AppError when it is refused */
export async function screen(context: OwnContext, text: string): Promise<void> {
  if (!context.isScreened && !changesPrivileges(text)) return;
  await context.service.screen?.({ session: context.session, text });
}

/** How row sources are looked up for a session. */
export function readingOf(context: OwnContext): RowSourceReading {
  return {
    describe: (statement) => describe(context, statement),
    isTenants: (table) => hasTable(context.relay, `system.${table}`),
  };
}

/** Whether what reads like a table of ours is one of the session's database. */
export async function isOfTenant(context: OwnContext, statement: Statement): Promise<boolean> {
  return statement.kind === 'show_system_table' && readingOf(context).isTenants(statement.table);
}

export async function describe(
  context: OwnContext,
  statement: Statement,
): Promise<readonly Column[] | undefined> {
  return await context.service.describe(statement, context.session);
}

function appendPostgres(steps: Step[], options: { piece: Located<string>; text: string }): void {
  const { piece, text } = options;
  const last = steps.at(-1);
  if (last?.kind === 'postgres') {
    steps[steps.length - 1] = { ...last, text: text.slice(last.begin, piece.end) };
  } else {
    steps.push({ kind: 'postgres', text: piece.node, begin: piece.begin });
  }
}

/** True when it failed and the error is said. */
async function runStep(context: OwnContext, step: Step, text: string): Promise<boolean> {
  const { relay, execution } = context;
  switch (step.kind) {
    case 'own': {
      await execution.recover();
      const { statement } = step;
      const result = await positionedAsync(text, step.begin, () =>
        execution.execute({ statement, text: step.text, parameters: [] }),
      );
      if (result.kind === 'in_session') return runInSession(relay, result);
      relay.reply(encodeResult(result));
      return false;
    }
    case 'postgres': {
      await execution.recover();
      const before = charactersBefore(text, step.begin);
      return await runOnBackend(relay, step.text, (position) => position + before);
    }
    case 'row_source': {
      await execution.recover();
      const values: string[] = [];
      for (const source of step.source.sources)
        values.push(jsonConstant(await fetchRows(context, source, [])));
      // Positions in the replaced text would point nowhere in the client's.
      return await runOnBackend(relay, replaceRowSources(step.source, values), () => undefined);
    }
  }
}

/** The rows of a source as JSON. */
export async function fetchRows(
  context: OwnContext,
  source: RowSource,
  parameters: readonly (string | null)[],
): Promise<string> {
  const { statement, text } = source;
  const result = await context.execution.execute({ statement, text, parameters });
  if (result.kind !== 'rows') throw new AppError('syntax', 'statement source returns no columns');
  return rowsToJson({ ...result, columns: source.columns });
}

async function runOnBackend(
  relay: Relay,
  text: string,
  mapPosition: (position: number) => number | undefined,
): Promise<boolean> {
  const { hasFailed } = await relay.exchange({
    messages: [encodeQuery(text)],
    hidden: [BACKEND.readyForQuery],
    mapped: {
      type: BACKEND.errorResponse,
      map: (message) => mapErrorPosition(message, mapPosition),
    },
  });
  return hasFailed;
}

/** Runs `use`; an error that points into the piece beginning at `begin` is made to point into the whole text. */
function positioned<T>(text: string, begin: number, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw shifted(error, charactersBefore(text, begin));
  }
}

async function positionedAsync<T>(text: string, begin: number, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    throw shifted(error, charactersBefore(text, begin));
  }
}

function shifted(error: unknown, characters: number): unknown {
  if (!(error instanceof AppError) || error.position === undefined || characters === 0) return error;
  return new AppError(error.code, error.message, {
    cause: error.cause,
    position: error.position + characters,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.detail === undefined ? {} : { detail: error.detail }),
  });
}

/** Characters, as Postgres counts positions, before a UTF-16 offset. */
function charactersBefore(text: string, offset: number): number {
  return offset === 0 ? 0 : Array.from(text.slice(0, offset)).length;
}

import { JOB_TYPES, type ControlledJobs, type ListedJobs, type Statement } from './ast.ts';
import { parseRole } from './parse-privileges.ts';
import { parseIdQuery, parseScheduleSelection } from './parse-selection.ts';
import { parseScalar, parseText } from './parse-value.ts';
import { rule, type Rule } from './rule.ts';
import type { TokenStream } from './token-stream.ts';

const ACTIONS = ['pause', 'resume', 'cancel'] as const;
type Action = (typeof ACTIONS)[number];

export const JOB_RULES: readonly Rule[] = [
  rule('show jobs', 'show_jobs', parseShowJobs),
  rule('show automatic jobs', 'show_jobs', parseShowAutomaticJobs),
  rule('show job', 'show_job', parseShowJob),
  rule('alter job', 'alter_job_owner', parseAlterOwner),
  ...ACTIONS.flatMap((action) => [
    rule(`${action} job`, 'control_jobs', (stream) =>
      parseControl(stream, action, { kind: 'one', id: parseScalar(stream) }),
    ),
    rule(`${action} jobs`, 'control_jobs', (stream) => parseControl(stream, action, parseSeveral(stream))),
    ...JOB_TYPES.map((type) =>
      rule(`${action} all ${type} jobs`, 'control_jobs', (stream) =>
        parseControl(stream, action, { kind: 'of_type', type }),
      ),
    ),
  ]),
];

function parseShowJobs(stream: TokenStream): Statement {
  const whenComplete = stream.acceptWords('when', 'complete');
  const jobs = whenComplete ? parseIdQuery(stream) : parseListed(stream);
  return {
    kind: 'show_jobs',
    automatic: false,
    jobs,
    whenComplete,
    withExecutionDetails: parseDetails(stream),
  };
}

function parseShowAutomaticJobs(stream: TokenStream): Statement {
  return {
    kind: 'show_jobs',
    automatic: true,
    jobs: { kind: 'all' },
    whenComplete: false,
    withExecutionDetails: parseDetails(stream),
  };
}

function parseListed(stream: TokenStream): ListedJobs {
  if (stream.isEnd() || isDetails(stream)) return { kind: 'all' };
  return parseSeveral(stream);
}

function parseSeveral(stream: TokenStream): ControlledJobs & ListedJobs {
  if (!stream.acceptWords('for')) return parseIdQuery(stream);
  return { kind: 'of_schedules', schedules: parseScheduleSelection(stream) };
}

function parseShowJob(stream: TokenStream): Statement {
  const whenComplete = stream.acceptWords('when', 'complete');
  return {
    kind: 'show_job',
    jobId: parseScalar(stream),
    whenComplete,
    withExecutionDetails: parseDetails(stream),
  };
}

function parseAlterOwner(stream: TokenStream): Statement {
  const jobId = parseScalar(stream);
  stream.expectWords('owner', 'to');
  return { kind: 'alter_job_owner', jobId, owner: parseRole(stream) };
}

function isDetails(stream: TokenStream): boolean {
  return stream.isWords('with', 'execution', 'details');
}

function parseDetails(stream: TokenStream): boolean {
  return stream.acceptWords('with', 'execution', 'details');
}

function parseControl(stream: TokenStream, action: Action, jobs: ControlledJobs): Statement {
  return { kind: 'control_jobs', action, jobs, reason: parseReason(stream, action) };
}

function parseReason(stream: TokenStream, action: Action) {
  if (action !== 'pause' || !stream.acceptWords('with', 'reason')) return undefined;
  stream.expectSymbol('=');
  return parseText(stream);
}

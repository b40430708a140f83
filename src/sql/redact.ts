/** Takes secrets out of what is shown: job descriptions, schedules, logs. */
import type { Statement, Value } from './ast.ts';
import { mapValues } from './values.ts';

export const REDACTED = 'redacted';

/** Parameters whose values help an operator and open nothing. Every other value is hidden. */
const SHOWN_PARAMETERS: ReadonlySet<string> = new Set([
  'AUTH',
  'AWS_ENDPOINT',
  'AWS_REGION',
  'AWS_SKIP_CHECKSUM',
  'AWS_SKIP_TLS_VERIFY',
  'AWS_USE_PATH_STYLE',
  'AZURE_ACCOUNT_NAME',
  'AZURE_ENVIRONMENT',
  'AZURE_VAULT_NAME',
  'COCKROACH_LOCALITY',
  'REGION',
  'S3_STORAGE_CLASS',
]);

/**
 * The statement as it may be shown to whoever may see the job: URIs go through `redactUri`, passphrases and KMS keys are
 * hidden altogether.
 */
export function redactStatement(statement: Statement, uriOf: (uri: string) => string = redactUri): Statement {
  return mapValues(statement, (value, role): Value => {
    if (role === 'plain' || value.kind === 'placeholder') return value;
    if (role === 'secret') return { kind: 'string', value: REDACTED };
    return value.kind === 'string' ? { kind: 'string', value: uriOf(value.value) } : value;
  });
}

/**
 * Keeps scheme, user, host and path; the password and every parameter that is not known to be harmless become
 * `redacted`. It takes whatever text it is given, for a mistyped URI holds secrets too, and hides rather too much of it.
 */
export function redactUri(uri: string): string {
  const queryBegin = uri.indexOf('?');
  if (queryBegin === -1) return redactAuthority(uri);
  const parameters = uri
    .slice(queryBegin + 1)
    .split('&')
    .map(redactParameter);
  return `${redactAuthority(uri.slice(0, queryBegin))}?${parameters.join('&')}`;
}

/** A `:` may part host and port, or user and password; a password may hold `/` and `@` that should have been encoded. */
function redactAuthority(base: string): string {
  const match = /^([^/?#]*:\/\/)([^/:]*):([\s\S]*)$/.exec(base);
  if (match === null) return base;
  const [, scheme = '', user = '', rest = ''] = match;
  const at = rest.lastIndexOf('@');
  if (at !== -1) return `${scheme}${user}:${REDACTED}${rest.slice(at)}`;
  return /^(?:\d{0,5}|redacted)(?:\/|$)/.test(rest) ? base : `${scheme}${user}:${REDACTED}`;
}

function redactParameter(parameter: string): string {
  const equals = parameter.indexOf('=');
  if (equals === -1) return parameter === '' || isShown(parameter) ? parameter : REDACTED;
  const name = parameter.slice(0, equals);
  const value = parameter.slice(equals + 1);
  const isHarmless = isShown(name) && !hidesUserInfo(value);
  return isHarmless ? parameter : `${name}=${REDACTED}`;
}

/** Names are upper case; what is written otherwise is a mistake, and its value may be anything. */
function isShown(name: string): boolean {
  return SHOWN_PARAMETERS.has(name);
}

/** An endpoint is a URI itself, and may carry a user and a password. */
function hidesUserInfo(value: string): boolean {
  return /@|%40|\?|%3f/i.test(value);
}

import type { Statement, StatementKind } from './ast.ts';
import type { TokenStream } from './token-stream.ts';

/** One way a statement of ours begins, and how it is read on. */
export interface Rule {
  /** The keywords it begins with, lower case. No rule's words are the beginning of another's. */
  readonly words: readonly string[];
  readonly kind: StatementKind;
  /** Reads what follows the words. @throws InputError `syntax`, `feature_not_supported` */
  readonly parse: (stream: TokenStream) => Statement;
}

export function rule(words: string, kind: StatementKind, parse: Rule['parse']): Rule {
  return { words: words.split(' '), kind, parse };
}

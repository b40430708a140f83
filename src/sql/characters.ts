/** PostgreSQL's character classes (scan.l): only ASCII has structure, everything above it is a letter. */

const IDENTIFIER_START = 1;
const IDENTIFIER_PART = 2;
const DIGIT = 4;
const SPACE = 8;
const OPERATOR = 16;

const CLASSES = new Uint8Array(128);

function classify(characters: string, flags: number): void {
  for (let index = 0; index < characters.length; index += 1) {
    const code = characters.charCodeAt(index);
    CLASSES[code] = (CLASSES[code] ?? 0) | flags;
  }
}

classify('abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_', IDENTIFIER_START | IDENTIFIER_PART);
classify('0123456789', IDENTIFIER_PART | DIGIT);
classify('$', IDENTIFIER_PART);
classify(' \t\n\r\f\v', SPACE);
classify('~!@#^&|`?+-*/%<>=', OPERATOR);

function has(code: number, flag: number): boolean {
  return code < 128 && ((CLASSES[code] ?? 0) & flag) !== 0;
}

/** `NaN`, which `charCodeAt` gives past the end, belongs to no class. */
export function isIdentifierStart(code: number): boolean {
  return code >= 128 || has(code, IDENTIFIER_START);
}

export function isIdentifierPart(code: number): boolean {
  return code >= 128 || has(code, IDENTIFIER_PART);
}

export function isDigit(code: number): boolean {
  return has(code, DIGIT);
}

export function isSpace(code: number): boolean {
  return has(code, SPACE);
}

export function isOperator(code: number): boolean {
  return has(code, OPERATOR);
}

export function isHexDigit(code: number): boolean {
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 70) || (code >= 97 && code <= 102);
}

/** Folds as Postgres folds unquoted names in UTF-8: ASCII letters only, so that no other letter can turn into a keyword. */
export function foldName(text: string): string {
  return text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

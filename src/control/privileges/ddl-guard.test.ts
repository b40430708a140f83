import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { refuseCreation } from './ddl-guard.ts';

const REFUSED = [
  'CREATE TABLE t (a int)',
  'create database d',
  '/* hint */ CREATE TABLE t ()',
  'SELECT 1; CREATE VIEW v AS SELECT 1',
  'ALTER TABLE t ADD b int',
  'CREATE TEMP TABLE t (a int)',
  'CREATE TABLE t AS SELECT 1',
  'SELECT * INTO t FROM pg_class',
  'WITH x AS (SELECT 1 AS a) SELECT a INTO t FROM x',
  'CREATE USER MAPPING FOR root SERVER s',
  'IMPORT FOREIGN SCHEMA s FROM SERVER f INTO public',
  'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$',
];
const ADMITTED = [
  '',
  ';;',
  'SELECT 1',
  "SELECT 'create table t'",
  'SELECT "into" FROM t',
  'SELECT $$ CREATE TABLE t () $$',
  '-- CREATE TABLE t ()\nSELECT 1',
  'CREATE ROLE alice LOGIN',
  'CREATE USER alice',
  'ALTER ROLE alice NOLOGIN',
  'ALTER USER alice PASSWORD NULL',
  'GRANT admin TO alice',
  'DROP TABLE t',
  'TRUNCATE t',
  'INSERT INTO t VALUES (1)',
  'WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a FROM x',
  'SET search_path = x',
  'BEGIN',
];

describe('the guard of the system interface', () => {
  for (const text of REFUSED) {
    it(`refuses ${text}`, () => {
      assert.throws(() => refuseCreation(text), {
        code: 'insufficient_privilege',
        message: 'blocked DDL from the system interface',
        hint: /^Object creation blocked via sql\.restrict_system_interface\.enabled to prevent likely user errors\./,
      });
    });
  }
  for (const text of ADMITTED) {
    it(`admits ${JSON.stringify(text)}`, () => refuseCreation(text));
  }
});

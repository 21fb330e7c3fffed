--- git.lua: runs git, asynchronously and never so that it writes; and finds the repository that a
--- buffer is about.

local child = require('gemma.child')

local M = {}

local api = vim.api

local GIT_MS = 20000

-- Off, whatever a repository says: they start programs, or change the names of files, which the
-- exclude list and our pathspecs need as they are from the top.
local OFF = { 'core.fsmonitor', 'core.quotePath', 'diff.relative', 'log.showSignature' }
-- Files that a repository may name to be read: one without an end would be read until memory is.
local NOWHERE = { 'diff.orderFile', 'core.attributesFile', 'mailmap.file' }
-- The last two keep git from fetching what a partial clone lacks; versions of before 2024 know only
-- the last one.
local ENV = {
  GIT_OPTIONAL_LOCKS = '0',
  LC_ALL = 'C.UTF-8',
  GIT_NO_LAZY_FETCH = '1',
  GIT_ALLOW_PROTOCOL = 'none',
}

---@class (exact) gemma.commit.GitOpts
---@field limit number? bytes of output; more ends git, and what came is handed over
---@field index string? another index than the repository's own

--- Runs git without anything that the repository's own configuration could start.
---@param dir string
---@param args string[]
---@param on_done fun(out: string?, err: string?, too_much: boolean?)
---@param o gemma.commit.GitOpts?
function M.run(dir, args, on_done, o)
  o = o or {}
  local cmd = { 'git', '-C', dir, '--no-pager' }
  for _, key in ipairs(OFF) do
    vim.list_extend(cmd, { '-c', key .. '=false' })
  end
  for _, key in ipairs(NOWHERE) do
    vim.list_extend(cmd, { '-c', key .. '=/dev/null' })
  end
  vim.list_extend(cmd, args)
  local env = vim.tbl_extend('force', ENV, { GIT_INDEX_FILE = o.index })
  local opts = { text = true, timeout = GIT_MS, env = env }
  local ok, err = pcall(child.read, cmd, opts, o.limit or math.huge, function(done, out, too_much)
    -- The code of a program that was killed is 0.
    if too_much or (done.code == 0 and done.signal == 0) then
      return on_done((out:gsub('\r\n', '\n')), nil, too_much)
    end
    local why = vim.trim(done.stderr or ''):match('^[^\n]*')
    local how = done.code ~= 0 and ('git ended with status %d'):format(done.code)
      or ('git was ended by signal %d'):format(done.signal)
    on_done(nil, why ~= '' and why or how)
  end)
  if not ok then
    vim.schedule(function()
      on_done(nil, 'git was not found: ' .. child.why(err))
    end)
  end
end

---@class (exact) gemma.commit.Where
---@field dirs string[] the first one that is of the right repository counts
---@field git_dir string? of the right one; nil when any is
---@field index string? what is committed, when it is not the repository's own index

--- Is it the directory that git keeps a repository in?
---@param dir string
---@return boolean
local function is_git_dir(dir)
  local function has(name)
    return vim.uv.fs_stat(vim.fs.joinpath(dir, name)) ~= nil
  end
  return has('HEAD') and (has('objects') or has('commondir'))
end

--- The work tree of such a directory, as far as the place tells. The directory itself otherwise: git
--- knows by core.worktree, as in a submodule, or refuses.
---@param git_dir string
---@return string
local function work_tree(git_dir)
  local link = vim.fs.joinpath(git_dir, 'gitdir') -- a linked work tree: holds the path of its .git
  local path = vim.fn.filereadable(link) == 1 and vim.fn.readfile(link, '', 1)[1]
  if path then
    local absolute = path:find('^/') or path:find('^%a:')
    return vim.fs.dirname(absolute and path or vim.fs.joinpath(git_dir, path))
  end
  return vim.fs.basename(git_dir) == '.git' and vim.fs.dirname(git_dir) or git_dir
end

--- The folder that a buffer is about: that of its file, the one that oil lists, or the git directory that
--- fugitive shows.
---@param buf integer
---@return string? nil when it has no name
local function folder(buf)
  local name = api.nvim_buf_get_name(buf)
  if name:find('^fugitive://') then
    return vim.b[buf].git_dir or name:match('^fugitive://(.-)//')
  end
  return name:match('^oil://(/.*)') or (name ~= '' and vim.fs.dirname(name) or nil)
end

--- The index of the commit that is under way: `git commit -a` and `git commit FILE` make one of their own,
--- whose name only those hear that git has started.
---@param git_dir string
---@return string?
local function index_of(git_dir)
  local index
  for name in vim.fs.dir(git_dir) do
    local partial = name:find('^next%-index%-%d+%.lock$')
    if partial or (name == 'index.lock' and not index) then
      index = vim.fs.joinpath(git_dir, name)
    end
  end
  return index
end

--- Where the repository is. For the message of a commit: the one whose directory holds it, since
--- other programs than git open messages of any repository in a Neovim that is running.
---@param buf integer
---@return gemma.commit.Where
function M.where(buf)
  if vim.b[buf].gemma_commit then
    return vim.b[buf].gemma_commit
  end
  local cwd = vim.fn.getcwd()
  local dir = folder(buf)
  if not dir or not vim.uv.fs_stat(dir) then
    return { dirs = { cwd } }
  elseif is_git_dir(dir) then
    -- git started this Neovim, in the work tree. What it set would go with us to any other place.
    local by_git = vim.env.GIT_DIR or vim.env.GIT_INDEX_FILE
    if by_git then
      return { dirs = { cwd }, git_dir = dir }
    end
    return { dirs = { cwd, work_tree(dir) }, git_dir = dir, index = index_of(dir) }
  end
  -- The buffers of oil are 'acwrite'.
  local of_file = vim.bo[buf].filetype ~= 'gitcommit'
    and vim.tbl_contains({ '', 'acwrite' }, vim.bo[buf].buftype)
  return { dirs = { of_file and dir or cwd } }
end

return M

--- demo_init.lua: the editor of `make demo`: the plugin, a model, and a guide in the corner.

vim.opt.runtimepath:prepend(vim.env.GEMMA_TOP)
vim.o.termguicolors = vim.env.COLORTERM ~= nil and vim.env.COLORTERM ~= ''
vim.o.number = true
vim.o.expandtab, vim.o.shiftwidth = true, 2
vim.o.laststatus = 2
vim.o.showmode = true
vim.o.shortmess = vim.o.shortmess .. 'I'
vim.o.statusline = "%f %m%=%{v:lua.require'gemma'.statusline()}  %l:%c "

local toy = (vim.env.GEMMA_DEMO_TOY or '') ~= ''

vim.g.gemma = {
  model_path = vim.env.GEMMA_DEMO_MODEL,
  lib_path = vim.env.GEMMA_DEMO_LIB,
  load = 'startup',
  completion = { auto = true },
}

local guide = {
  ' gemma.nvim                           ',
  '                                      ',
  ' Type code in Insert mode:            ',
  '   grey text is a suggestion          ',
  '   <M-l>      accept it               ',
  '   <M-Right>  accept a word           ',
  '   <M-Down>   accept a line           ',
  '   <C-]>      dismiss it              ',
  ' Select lines with V, then            ',
  '   :GemmaExplain                      ',
  ' :e notes.md and on the link          ',
  '   :Gemma image What is this?         ',
  ' :Gemma status   what it is doing     ',
  ' :qa!  leave     g?  hide this        ',
}
if toy then
  vim.list_extend(guide, {
    '                                      ',
    ' This model is a toy of 10 MB. The    ',
    ' real one: make demo MODEL=path       ',
  })
end

local win

local function toggle()
  if win and vim.api.nvim_win_is_valid(win) then
    vim.api.nvim_win_close(win, true)
    win = nil
    return
  end
  local buf = vim.api.nvim_create_buf(false, true)
  vim.api.nvim_buf_set_lines(buf, 0, -1, false, guide)
  vim.bo[buf].bufhidden = 'wipe'
  win = vim.api.nvim_open_win(buf, false, {
    relative = 'editor',
    anchor = 'NE',
    row = 0,
    col = vim.o.columns,
    width = 38,
    height = #guide,
    style = 'minimal',
    border = 'rounded',
    focusable = false,
    noautocmd = true,
    zindex = 10,
  })
end

vim.keymap.set('n', 'g?', toggle, { desc = 'demo: show or hide the guide' })
vim.api.nvim_create_autocmd('VimEnter', {
  once = true,
  callback = function()
    toggle()
    -- Behind the first function's head, where a suggestion has something to go by.
    vim.fn.search('function M.sum', 'w')
  end,
})
